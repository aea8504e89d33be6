//! `Dockerfile` and `deploy/compose.yaml` as an operator runs them, in front of a plaintext Dovecot.

use crate::commands::{both, command, output, run, wait_for};
use crate::engine::Engine;
use crate::{images, root};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn an_old_server_is_behind_tls_after_compose_up() {
    let engine = Engine::start();
    let project = Project::build(&engine);

    project.a_container_told_nothing_refuses_to_run();
    project.run(["up", "-d"]);
    project.wait_until_healthy();
    let root_certificate = project.root_certificate();

    project.customers_read_their_mail();
    project.a_wrong_password_is_refused();
    project.submission_greets_under_tls();
    project.nothing_else_is_open();
    project.the_log_has_the_login_and_not_the_password();

    project.stops_gracefully();
    project.run(["up", "-d", "--force-recreate"]);
    project.wait_until_healthy();
    assert_eq!(project.root_certificate(), root_certificate, "a new container serves certificates of the same CA");
    project.customers_read_their_mail();
    project.run(["down", "--volumes", "--timeout", "30"]);
}

struct Project<'a> {
    engine: &'a Engine,
    /// What a test says beside the file: which images stand in for those that a registry has.
    beside: PathBuf,
}

impl<'a> Project<'a> {
    fn build(engine: &'a Engine) -> Self {
        images::runtime(engine);
        images::old_server(engine);
        let builder = images::builder(engine);

        // Under a name, so that it survives the clearing below and the next run need not compile the dependencies.
        let mut dependencies = engine.docker();
        dependencies.args(["build", "--force-rm", "--target", "dependencies", "--tag", "gatepost-test/dependencies"]);
        dependencies.args(["--build-arg", &format!("BUILDER={builder}"), "--build-arg", "PROFILE=dev"]);
        run(dependencies.arg(root()));

        // A machine that is a container itself may not raise the bound.
        let descriptors = run(&mut command("sh", ["-c", "ulimit -Hn"]));
        let descriptors = descriptors.trim().parse::<u32>().map_or(65536, |most| most.min(65536));
        let beside = engine.directory().join("beside.yaml");
        let text = format!(
            "services:
  gatepost:
    build: {{ args: {{ BUILDER: '{builder}', RUNTIME: '{}', PROFILE: dev }} }}
    healthcheck: {{ interval: 1s }}
    ulimits: {{ nofile: {{ soft: {descriptors}, hard: {descriptors} }} }}
  mail: {{ image: '{}' }}
",
            images::RUNTIME,
            images::OLD_SERVER
        );
        std::fs::write(&beside, text).expect("a new file");
        let project = Self { engine, beside };
        project.run(["down", "--volumes", "--timeout", "1"]);
        project.run(["build"]);
        // What earlier runs left behind.
        run(engine.docker().args(["container", "prune", "--force"]));
        run(engine.docker().args(["image", "prune", "--force"]));
        project
    }

    fn a_container_told_nothing_refuses_to_run(&self) {
        let output = output(self.engine.docker().args(["run", "--rm", "gatepost"]));
        assert_eq!(output.status.code(), Some(78), "{}", both(&output));
    }

    fn wait_until_healthy(&self) {
        wait_for("the container is healthy", Duration::from_secs(60), || {
            let status = self.inspect("{{.State.Health.Status}}");
            if status == "healthy" { Ok(()) } else { Err(format!("{status}:\n{}", self.log())) }
        });
    }

    /// The private CA's certificate, as the documentation has an operator fetch it.
    fn root_certificate(&self) -> String {
        let pem =
            self.run(["exec", "-T", "gatepost", "gatepost", "cert", "export", "--state-dir", "/var/lib/gatepost"]);
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
        std::fs::write(self.ca_file(), &pem).expect("a new file");
        pem
    }

    fn customers_read_their_mail(&self) {
        for url in ["imaps://mail.example.net:993/", "pop3s://mail.example.net:995/"] {
            wait_for(url, Duration::from_secs(30), || {
                let output = output(self.curl(url).args(["--user", "joe:secret"]));
                output.status.success().then_some(()).ok_or_else(|| both(&output))
            });
        }
        let folders = run(self.curl("imaps://mail.example.net:993/").args(["--user", "joe:secret"]));
        assert!(folders.contains("INBOX"), "{folders}");
    }

    fn a_wrong_password_is_refused(&self) {
        const LOGIN_DENIED: i32 = 67;
        let output = output(self.curl("imaps://mail.example.net:993/").args(["--user", "joe:wrong"]));
        assert_eq!(output.status.code(), Some(LOGIN_DENIED), "{}", both(&output));
    }

    fn submission_greets_under_tls(&self) {
        for (port, how) in [("465", vec!["-quiet"]), ("587", vec!["-starttls", "smtp", "-quiet"])] {
            let mut client = self.engine.on_host("sh");
            client.arg("-c").arg("{ printf 'EHLO client.example\\r\\nQUIT\\r\\n'; sleep 5; } | openssl \"$@\"");
            client.args(["openssl", "s_client", "-verify_return_error", "-verify_hostname", "mail.example.net"]);
            client.arg("-CAfile").arg(self.ca_file());
            client.args(["-connect", &format!("127.0.0.1:{port}")]).args(how);
            let said = both(&output(&mut client));
            assert!(said.contains("250-mail.example.net") && said.contains("\n221 "), "port {port}:\n{said}");
        }
    }

    fn nothing_else_is_open(&self) {
        let listening = run(self.engine.on_host("ss").args(["-Htln"]));
        let ports = listening.lines().filter_map(|line| line.split_whitespace().nth(3)?.rsplit(':').next());
        let mut ports: Vec<u16> = ports.map(|port| port.parse().expect("a port")).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports, [465, 587, 993, 995], "{listening}");
    }

    fn the_log_has_the_login_and_not_the_password(&self) {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(r#""event":"auth.ok""#)).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(r#""user":"joe""#) && line.contains(r#""backend":"main""#), "{line}");
        assert!(!log.contains("secret"), "{log}");
    }

    fn stops_gracefully(&self) {
        let begin = Instant::now();
        self.run(["stop"]);
        assert!(begin.elapsed() < Duration::from_secs(60), "without a session there is nothing to wait for");
        assert_eq!(self.inspect("{{.State.ExitCode}}"), "0", "{}", self.log());
    }

    fn run<const N: usize>(&self, arguments: [&str; N]) -> String {
        run(self.compose().args(arguments))
    }

    fn log(&self) -> String {
        both(&output(self.compose().args(["logs", "--no-color", "gatepost"])))
    }

    fn inspect(&self, format: &str) -> String {
        let container = self.run(["ps", "--quiet", "gatepost"]);
        run(self.engine.docker().args(["inspect", "--format", format, container.trim()])).trim().to_owned()
    }

    fn compose(&self) -> Command {
        let mut compose = self.engine.compose();
        compose.arg("--file").arg(root().join("deploy/compose.yaml")).arg("--file").arg(&self.beside);
        compose.args(["--project-name", "gatepost"]);
        compose
    }

    fn curl(&self, url: &str) -> Command {
        let mut curl = self.engine.on_host("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--resolve"]);
        curl.arg("mail.example.net:993:127.0.0.1").args(["--resolve", "mail.example.net:995:127.0.0.1"]);
        curl.arg("--cacert").arg(self.ca_file()).arg(url);
        curl
    }

    fn ca_file(&self) -> PathBuf {
        self.engine.directory().join("ca.pem")
    }
}
