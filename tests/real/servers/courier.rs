//! Courier IMAP and POP3, in a root directory of their own: Debian does not let them stand beside Dovecot.

use super::old_root::copy_of_old_servers;
use super::{JOE, ODD, greeted};
use crate::kept::{Kept, own_address, write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// A running Courier: its two servers and the daemon that checks passwords.
pub struct Courier {
    pub address: Ipv4Addr,
    _authdaemon: Kept,
    _imap: Kept,
    _pop3: Kept,
}

/// The instance that all tests share.
pub fn shared() -> &'static Courier {
    static SHARED: OnceLock<Courier> = OnceLock::new();
    SHARED.get_or_init(Courier::start)
}

/// Who owns the mail in there.
const BOX: u32 = 2001;

impl Courier {
    fn start() -> Self {
        let (address, root) = (own_address(), copy_of_old_servers("courier"));
        write(
            &root.join("etc/passwd"),
            format!("root:x:0:0::/:/bin/sh\ncourier:x:2000:2000::/:/bin/sh\nbox:x:{BOX}:{BOX}::/:/bin/sh\n"),
        );
        write(&root.join("etc/group"), format!("root:x:0:\ncourier:x:2000:\nbox:x:{BOX}:\n"));
        std::fs::create_dir_all(root.join("run/courier/authdaemon")).expect("ours");
        write(
            &root.join("etc/courier/authdaemonrc"),
            "authmodulelist=\"authuserdb\"\nauthmodulelistorig=\"authuserdb\"\ndaemons=5\nauthdaemonvar=/run/courier/authdaemon\n",
        );
        let users: String = [JOE, ODD].iter().map(|(user, password)| user_line(&root, user, password)).collect();
        write(&root.join("etc/courier/userdb"), users);
        std::fs::set_permissions(root.join("etc/courier/userdb"), std::fs::Permissions::from_mode(0o600))
            .expect("ours");
        inside(&root, &["/usr/sbin/makeuserdb"], "");

        let log = |name: &str| root.join(format!("{name}.log"));
        let at = root.to_str().expect("UTF-8");
        let authdaemon =
            Kept::start("chroot", &[at, "/usr/lib/courier/courier-authlib/authdaemond"], &log("auth"), Some(&root));
        let listen = format!("-address={address}");
        let tcpd =
            ["/usr/sbin/couriertcpd", &listen, "-maxprocs=100", "-maxperip=100", "-nodnslookup", "-noidentlookup"];
        let serve = |name: &str, settings: &[&str], server: [&str; 3]| {
            let arguments =
                [&["-i", "PATH=/usr/sbin:/usr/bin"], settings, &["chroot", at], &tcpd, &server, &["Maildir"]].concat();
            Kept::start("env", &arguments, &log(name), None)
        };
        let imap = serve(
            "imap",
            &[IMAP_CAPABILITY, "IMAP_KEYWORDS=1"],
            ["143", "/usr/lib/courier/courier/imaplogin", "/usr/bin/imapd"],
        );
        let pop3 = serve(
            "pop3",
            &["POP3AUTH=PLAIN LOGIN CRAM-MD5"],
            ["110", "/usr/lib/courier/courier/courierpop3login", "/usr/lib/courier/courier/courierpop3d"],
        );
        let courier = Self { address, _authdaemon: authdaemon, _imap: imap, _pop3: pop3 };
        greeted(courier.imap(), "* OK", &courier._imap);
        greeted(courier.pop3(), "+OK", &courier._pop3);
        courier
    }

    pub fn imap(&self) -> SocketAddr {
        (self.address, 143).into()
    }

    pub fn pop3(&self) -> SocketAddr {
        (self.address, 110).into()
    }
}

const IMAP_CAPABILITY: &str = "IMAP_CAPABILITY=IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA AUTH=PLAIN AUTH=CRAM-MD5 IDLE";

/// Makes the user's Maildir and returns the line that the user database wants.
fn user_line(root: &Path, user: &str, password: &str) -> String {
    let home = root.join("home").join(user);
    std::fs::create_dir_all(&home).expect("ours");
    for name in ["", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"] {
        std::fs::create_dir_all(home.join(name)).expect("ours");
        chown(home.join(name), Some(BOX), Some(BOX)).expect("root");
    }
    let crypted = inside(root, &["/usr/bin/openssl", "passwd", "-1", "-stdin"], password);
    let hmac = inside(root, &["/usr/sbin/userdbpw", "-hmac-md5"], password);
    format!("{user}\tuid={BOX}|gid={BOX}|home=/home/{user}|systempw={crypted}|hmac-md5pw={hmac}\n")
}

/// Runs a program in `root` (openssl outside of it, where it is installed) and returns its one line of output.
fn inside(root: &Path, command: &[&str], input: &str) -> String {
    let mut process = match command[0] {
        "/usr/bin/openssl" => Command::new(command[0]),
        program => {
            let mut chroot = Command::new("/usr/sbin/chroot");
            chroot.arg(root).arg(program);
            chroot
        }
    };
    process.args(&command[1..]).env("LC_ALL", "C");
    crate::clients::output_of(process, format!("{input}\n").as_bytes()).trim().to_owned()
}
