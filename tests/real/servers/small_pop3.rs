//! popa3d, a small POP3 server as it was run from inetd: one process a connection, no CAPA, no SASL, users from /etc/passwd.

use super::old_root::copy_of_old_servers;
use super::{JOE, ODD};
use crate::clients::output_of;
use crate::kept::{Kept, own_address, write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A running popa3d behind a listener of ours that does what inetd did.
pub struct SmallPop3 {
    pub address: Ipv4Addr,
    root: PathBuf,
    _cleaner: Kept,
}

/// The instance that all tests share.
pub fn shared() -> &'static SmallPop3 {
    static SHARED: OnceLock<SmallPop3> = OnceLock::new();
    SHARED.get_or_init(SmallPop3::start)
}

/// The user that popa3d becomes while it talks to strangers.
const POPA3D: u32 = 2002;

impl SmallPop3 {
    fn start() -> Self {
        let (address, root) = (own_address(), copy_of_old_servers("popa3d"));
        let users = [JOE, ODD];
        let mut passwd = format!("root:x:0:0::/:/bin/sh\npopa3d:x:{POPA3D}:{POPA3D}::/:/bin/sh\n");
        let mut shadow = String::new();
        for ((user, password), uid) in users.iter().zip(3000..) {
            let mut openssl = Command::new("/usr/bin/openssl");
            openssl.args(["passwd", "-6", "-stdin"]);
            let crypted = output_of(openssl, format!("{password}\n").as_bytes());
            passwd += &format!("{user}:x:{uid}:{uid}::/:/bin/sh\n");
            shadow += &format!("{user}:{}:19000:0:99999:7:::\n", crypted.trim());
        }
        let groups: String = (3000..).take(users.len()).map(|gid| format!("group{gid}:x:{gid}:\n")).collect();
        write(&root.join("etc/passwd"), passwd);
        write(&root.join("etc/shadow"), shadow);
        write(&root.join("etc/group"), format!("root:x:0:\nmail:x:8:\npopa3d:x:{POPA3D}:\n{groups}"));
        write(&root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\n");
        for service in ["popa3d", "other"] {
            write(&root.join("etc/pam.d").join(service), "auth required pam_unix.so\naccount required pam_unix.so\n");
        }
        std::fs::create_dir_all(root.join("var/mail")).expect("ours");
        let listener = TcpListener::bind((address, 110)).expect("an address of our own");
        let cleaner = Kept::start("sleep", &["infinity"], &root.join("cleaner.log"), Some(&root));
        let inside = root.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let input = OwnedFd::from(client);
                let output = input.try_clone().expect("a descriptor");
                let mut server = Command::new("/usr/sbin/chroot")
                    .arg(&inside)
                    .arg("/usr/sbin/popa3d")
                    .stdin(input)
                    .stdout(output)
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("unpacked by tests/run");
                std::thread::spawn(move || server.wait());
            }
        });
        Self { address, root, _cleaner: cleaner }
    }

    pub fn pop3(&self) -> SocketAddr {
        (self.address, 110).into()
    }

    /// Gives `user` a mailbox with one message in it.
    pub fn deliver(&self, user: &str, message: &str) {
        let mailbox = self.root.join("var/mail").join(user);
        write(&mailbox, format!("From sender@example.net Thu Jan  1 00:00:00 2026\n{message}\n"));
        let uid = if user == JOE.0 { 3000 } else { 3001 };
        chown(&mailbox, Some(uid), Some(uid)).expect("root");
        std::fs::set_permissions(&mailbox, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }
}
