//! The steps of `deploy/docs/start.md`, taken on a Debian of their own whose first process is systemd, with Dovecot in
//! the part of the old server.

use crate::commands::{both, output, run, wait_for};
use crate::documents::blocks;
use crate::engine::Engine;
use crate::{images, root};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

#[test]
fn the_steps_of_the_documentation_lead_to_a_service() {
    let engine = Engine::start();
    images::old_server(&engine);
    let machine = Machine::boot(&engine);
    let document = std::fs::read_to_string(root().join("deploy/docs/start.md")).expect("a document");
    let steps = blocks(&document, "sh");

    let install = steps[0].strip_prefix("cargo build --release\n").expect("it begins with the build");
    machine.run(&format!("cd /source && {}", all(install)));
    let shown = blocks(&document, "yaml")[0];
    let configuration = shown.replace("host: 10.0.0.5", "host: 127.0.0.1, smtp: null");
    assert_ne!(shown, configuration);
    machine.configure(&format!("{configuration}log: {{ auth_log: /var/log/gatepost/auth.log }}\n"));
    let said = machine.run(&all(steps[1]));
    assert!(said.contains("imap://127.0.0.1:143: up"), "{said}");

    machine.fetch_root_certificate();
    machine.a_customer_reads_mail();
    let log = machine.run("cat /var/log/gatepost/auth.log");
    assert!(log.contains(r#""event":"auth.ok""#) && log.contains(r#""user":"joe""#), "{log}");

    // What the unit forbids leaves room for what the program forbids itself.
    let log = machine.run("journalctl --no-pager --unit gatepost");
    assert!(log.contains("in its sandbox: files by Landlock, system calls by seccomp"), "{log}");

    machine.a_hook_runs(&configuration);
    machine.configure(&configuration);
    machine.run("systemctl restart gatepost");

    machine.run("systemctl reload gatepost");
    machine.configure(&format!("{configuration}a_mistake: 1\n"));
    let reload = machine.output("systemctl reload gatepost");
    assert!(!reload.status.success(), "a mistake is shown to who reloads");
    let log = machine.run("journalctl --no-pager --unit gatepost");
    assert!(log.contains("gatepost.yaml:4:1: error: `a_mistake`"), "{log}");
    machine.a_customer_reads_mail();

    machine.run("systemctl stop gatepost");
    assert_eq!(machine.state("Result"), "success");
    assert!(!machine.output("systemctl start gatepost").status.success());
    assert_eq!(machine.state("ExecMainStatus"), "78");
    // Longer than RestartSec, which would lead to a second start.
    machine.run("sleep 4");
    assert_eq!((machine.state("ActiveState").as_str(), machine.state("NRestarts").as_str()), ("failed", "0"));
}

struct Machine<'a> {
    engine: &'a Engine,
}

const NAME: &str = "gatepost-test-machine";

impl<'a> Machine<'a> {
    fn boot(engine: &'a Engine) -> Self {
        output(engine.docker().args(["rm", "--force", NAME]));
        let mut machine = engine.docker();
        machine.args(["run", "--detach", "--name", NAME, "--tmpfs", "/run", "--tmpfs", "/tmp"]);
        // What systemd needs to make namespaces and control groups for the unit.
        machine.args(["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]);
        machine.args(["--security-opt", "systempaths=unconfined"]);
        machine.args(["--volume", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd"]);
        machine.arg("--volume").arg(format!("{}:/source/deploy:ro", root().join("deploy").display()));
        let program = env!("CARGO_BIN_EXE_gatepost");
        machine.arg("--volume").arg(format!("{program}:/source/target/release/gatepost:ro"));
        run(machine.args([images::OLD_SERVER, "/sbin/init"]));
        let machine = Self { engine };
        wait_for("the machine is up", Duration::from_secs(60), || {
            let said = both(&machine.output("systemctl is-system-running"));
            if said.trim() == "running" { Ok(()) } else { Err(said) }
        });
        machine
    }

    fn configure(&self, configuration: &str) {
        self.run(&format!("cat > /etc/gatepost/gatepost.yaml <<'END'\n{configuration}END\n"));
    }

    /// The program for dns-01 has room in the unit. Without a CA it is seen by what a gateway that was killed left in the DNS,
    /// which the next one takes away at its start.
    fn a_hook_runs(&self, configuration: &str) {
        self.run(
            "install -D -m 755 /dev/stdin /etc/gatepost-dns/hook <<'END'\n\
             #!/bin/sh\necho \"$*, $(id -un), $(grep -c . /etc/hosts | grep -c .)\" > /run/gatepost/hook\nEND\n",
        );
        let url = "https://127.0.0.1:1/dir";
        self.configure(&format!(
            "{configuration}tls:\n  acme:\n    names: [mail.example.net]\n    directory: {url}\n    challenge: dns-01\n    \
             hook: /etc/gatepost-dns/hook\n"
        ));
        let record = format!("_acme-challenge.mail.example.net {}", "x".repeat(43));
        self.run(&format!(
            "folder=/var/lib/gatepost/acme/127.0.0.11-$(printf %s {url} | sha256sum | head -c 8)\n\
             install -d -m 700 -o gatepost -g gatepost /var/lib/gatepost/acme $folder\n\
             echo '[{{\"record\":\"{record}\"}}]' > $folder/records.json\n\
             chown gatepost $folder/records.json\n\
             systemctl restart gatepost"
        ));
        wait_for("the hook to be called", Duration::from_secs(20), || {
            let said = both(&self.output("cat /run/gatepost/hook"));
            if said.trim() == format!("cleanup {record}, gatepost, 1") { Ok(()) } else { Err(said) }
        });
        let log = self.run("journalctl --no-pager --unit gatepost");
        assert!(!log.contains("may still be there"), "{log}");
    }

    fn a_customer_reads_mail(&self) {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = run(self.engine.docker().args(["inspect", "--format", address, NAME]));
        let mut curl = self.engine.on_host("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--user", "joe:secret", "--resolve"]);
        curl.arg(format!("mail.example.net:993:{}", address.trim())).arg("--cacert").arg(self.root_certificate());
        let folders = run(curl.arg("imaps://mail.example.net/"));
        assert!(folders.contains("INBOX"), "{folders}");
    }

    /// The private CA's, as the documentation has an operator fetch it.
    fn fetch_root_certificate(&self) {
        std::fs::write(self.root_certificate(), self.run("gatepost cert export")).expect("a new file");
    }

    fn root_certificate(&self) -> PathBuf {
        self.engine.directory().join("machine.pem")
    }

    /// A property of the unit.
    fn state(&self, property: &str) -> String {
        self.run(&format!("systemctl show --value --property {property} gatepost")).trim().to_owned()
    }

    fn run(&self, script: &str) -> String {
        let output = self.output(script);
        let log = || both(&self.output("journalctl --no-pager --unit gatepost"));
        assert!(output.status.success(), "{script}\n{}\n{}", both(&output), log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn output(&self, script: &str) -> Output {
        output(self.exec().arg(script))
    }

    fn exec(&self) -> Command {
        let mut exec = self.engine.docker();
        exec.args(["exec", NAME, "sh", "-ec"]);
        exec
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        output(self.engine.docker().args(["rm", "--force", "--volumes", NAME]));
    }
}

/// The lines, each of which must go well.
fn all(lines: &str) -> String {
    lines.trim_end().replace('\n', " && ")
}
