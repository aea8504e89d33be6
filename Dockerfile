# gatepost as a container; deploy/docs/containers.md says how to run it.
#
#   docker build -t gatepost .
#
# Both base images are arguments, so that a mirror of yours can take their place.
ARG BUILDER=rust:1-slim-bookworm
ARG RUNTIME=debian:bookworm-slim

# The dependencies alone: built again only when one of these files changes.
FROM ${BUILDER} AS dependencies
# "dev" compiles in a fraction of the time, for trying out a change.
ARG PROFILE=release
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY trim trim
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --profile "$PROFILE" \
    && rm -r src

FROM dependencies AS build
ARG PROFILE=release
COPY src src
# cargo goes by modification times, and those of the sources may be older than the stage above.
RUN touch src/main.rs src/lib.rs \
    && cargo build --locked --profile "$PROFILE" --bin gatepost \
    && cp target/*/gatepost /gatepost

FROM ${RUNTIME}
# A number that no distribution gives away: files shared with the host have to be readable for it.
RUN groupadd --gid 10993 gatepost \
    && useradd --uid 10993 --gid 10993 --home-dir / --no-create-home --shell /usr/sbin/nologin gatepost \
    && install -d -o 10993 -g 10993 -m 0700 /var/lib/gatepost /run/gatepost \
    && install -d -m 0755 /etc/gatepost
# Trusted for TLS towards a backend; the slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gatepost /usr/local/bin/gatepost

# The default listeners become 10993, 10995, 10465 and 10587, which nobody needs a privilege for.
ENV GATEPOST_PORT_OFFSET=10000
EXPOSE 10993 10995 10465 10587
# The private CA lives here: lose it, and every client sees a stranger's certificate.
VOLUME /var/lib/gatepost
USER 10993:10993
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["gatepost", "status", "--health"]
ENTRYPOINT ["gatepost"]
CMD ["run"]
