//! What becomes of each directive: carried over by its reader, needed no longer, or left with a word about what to do.

use super::super::notes::Notes;
use super::syntax::Directive;

/// What is known about the directives of one kind of block.
pub(super) struct Known {
    /// Read by somebody.
    carried: &'static [&'static str],
    /// Without a counterpart, and without need of one.
    idle: &'static [&'static str],
    /// Without a counterpart: what to do.
    left: &'static [(&'static str, &'static str)],
}

/// Outside of all blocks.
pub(super) static MAIN: Known = Known {
    carried: &["mail", "stream", "include"],
    idle: &[
        "worker_processes",
        "worker_rlimit_nofile",
        "worker_cpu_affinity",
        "worker_priority",
        "worker_shutdown_timeout",
        "events",
        "pid",
        "error_log",
        "daemon",
        "master_process",
        "load_module",
        "lock_file",
        "pcre_jit",
        "timer_resolution",
        "thread_pool",
        "http",
        "env",
    ],
    left: &[
        ("user", "write `runtime: { user: gatepost }`, a user who may read the certificates and their keys"),
        ("ssl_engine", "keys are read from files alone: write the key's file under tls.certificates"),
    ],
};

const TLS_IDLE: &[&str] = &[
    "ssl_ciphers",
    "ssl_prefer_server_ciphers",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_session_cache",
    "ssl_session_timeout",
    "ssl_buffer_size",
];

const TLS_LEFT: &[(&str, &str)] = &[
    ("ssl_password_file", "a key with a passphrase cannot be read: store it without (`openssl pkey`), mode 0600"),
    ("ssl_session_ticket_key", "tickets' keys are made and changed by the gateway itself: nothing to do"),
    ("ssl_crl", "lists of revoked client certificates are not looked at: revoke by a CA of its own for clients"),
    ("ssl_verify_depth", "client certificates are taken however long their chain is: name the CA that signs them"),
    ("ssl_trusted_certificate", "only tls.client_ca says whose client certificates are taken"),
    ("ssl_conf_command", "TLS is as it is here, versions aside: nothing to do unless it set a version"),
    ("ssl_stapling", "an OCSP response is sent if it lies beside the chain: FILE.ocsp"),
    ("ssl_stapling_file", "an OCSP response is sent if it lies beside the chain: copy it to CHAIN.ocsp"),
    ("ssl_ocsp", "client certificates are not asked about by OCSP"),
];

const TLS_CARRIED: &[&str] = &[
    "ssl",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_protocols",
    "ssl_session_tickets",
    "ssl_client_certificate",
    "ssl_verify_client",
];

/// In `mail` and in its servers.
pub(super) static MAIL: Known = Known {
    carried: &[
        "server",
        "include",
        "listen",
        "protocol",
        "server_name",
        "starttls",
        "auth_http",
        "imap_auth",
        "pop3_auth",
        "smtp_auth",
        "timeout",
        "proxy_timeout",
        "proxy_protocol",
        "set_real_ip_from",
        "xclient",
    ],
    idle: &[
        "error_log",
        "resolver",
        "resolver_timeout",
        "imap_capabilities",
        "pop3_capabilities",
        "smtp_capabilities",
        "imap_client_buffer",
        "pop3_client_buffer",
        "smtp_client_buffer",
        "proxy",
        "proxy_buffer",
        "max_errors",
    ],
    left: &[
        (
            "proxy_pass_error_message",
            "a refused login is answered in our own words, and the server's are in the event (`reply`): nothing to do",
        ),
        (
            "proxy_smtp_auth",
            "the user logs in at the SMTP server with the same password: auth.submission says who checks it",
        ),
        ("smtp_greeting_delay", "there is no delay before the greeting: limits hold back who guesses"),
        (
            "auth_http_header",
            "no header of yours is sent along: have the service believe this host's address (the value is not shown here)",
        ),
        ("auth_http_timeout", "the service has a deadline of its own"),
        ("auth_http_pass_client_cert", "the client's certificate is not sent to the service"),
        ("max_commands", "limits.auth_attempts_per_session ends a session after failed logins"),
        ("google_perftools_profiles", "nothing of the kind"),
    ],
};

/// In `stream` and in its servers.
pub(super) static STREAM: Known = Known {
    carried: &[
        "server",
        "upstream",
        "map",
        "include",
        "listen",
        "server_name",
        "proxy_pass",
        "proxy_ssl",
        "proxy_ssl_verify",
        "proxy_ssl_trusted_certificate",
        "proxy_protocol",
        "set_real_ip_from",
        "proxy_bind",
        "proxy_timeout",
        "proxy_connect_timeout",
        "ssl_handshake_timeout",
        "allow",
        "deny",
        "limit_conn",
        "limit_conn_zone",
        "ssl_preread",
    ],
    idle: &[
        "error_log",
        "access_log",
        "log_format",
        "open_log_file_cache",
        "resolver",
        "resolver_timeout",
        "tcp_nodelay",
        "proxy_buffer_size",
        "proxy_socket_keepalive",
        "proxy_half_close",
        "proxy_next_upstream",
        "proxy_next_upstream_timeout",
        "proxy_next_upstream_tries",
        "preread_buffer_size",
        "preread_timeout",
        "variables_hash_bucket_size",
        "variables_hash_max_size",
        "map_hash_bucket_size",
        "map_hash_max_size",
        "limit_conn_log_level",
        "proxy_ssl_server_name",
        "proxy_ssl_session_reuse",
        "proxy_ssl_ciphers",
        "proxy_ssl_protocols",
        "proxy_ssl_verify_depth",
        "proxy_protocol_timeout",
    ],
    left: &[
        (
            "proxy_ssl_name",
            "the server's certificate must be for the name under backends: write that name there, and its address into /etc/hosts",
        ),
        (
            "proxy_ssl_certificate",
            "no client certificate is shown to the servers behind: have them believe this host's address",
        ),
        ("proxy_ssl_certificate_key", "no client certificate is shown to the servers behind"),
        ("proxy_download_rate", "there is no limit on bytes: limits hold sessions and logins"),
        ("proxy_upload_rate", "there is no limit on bytes: limits hold sessions and logins"),
        ("limit_conn_dry_run", "limits hold, there is no trial of them"),
        ("return", "nothing answers with a text of its own"),
        ("split_clients", "write the servers under one backend, with `balance`"),
        ("geo", "write the networks under allow and deny of a listener"),
        ("js_import", "no scripts run here"),
    ],
};

/// Makes a note of every directive of a block that its reader does not read.
pub(super) fn look_at(block: &[Directive], known: &Known, notes: &mut Notes) {
    for directive in block {
        let name = directive.name.as_str();
        if known.carried.contains(&name) || TLS_CARRIED.contains(&name) {
            continue;
        }
        if known.idle.contains(&name) || TLS_IDLE.contains(&name) {
            notes.idle(&directive.place, name);
        } else if let Some((_, advice)) = known.left.iter().chain(TLS_LEFT).find(|(left, _)| *left == name) {
            // What stands behind such a name may be a secret.
            let text = if name == "auth_http_header" { name.to_owned() } else { directive.text() };
            notes.left(&directive.place, &text, advice);
        } else {
            notes.unknown(&directive.place, name);
        }
    }
}
