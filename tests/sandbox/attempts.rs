//! What is tried.

use InControl::{NotTried, Possible};
use nix::unistd::Uid;
use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Attempt {
    pub what: &'static str,
    pub try_it: Box<dyn FnOnce() -> io::Result<()>>,
}

/// Whether it is shown that the attempt succeeds without a sandbox.
#[derive(Clone, Copy)]
pub enum InControl {
    Possible,
    /// It would end the process that tries, or needs more than a test should ask for.
    NotTried,
}

fn attempt(what: &'static str, try_it: impl FnOnce() -> io::Result<()> + 'static) -> Attempt {
    Attempt { what, try_it: Box::new(try_it) }
}

/// A socket outside the sandbox, by the folder it belongs to.
pub fn abstract_socket(folder: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(folder.as_os_str().as_encoded_bytes()).expect("short enough")
}

/// What a gateway needs.
pub fn allowed(folder: &Path) -> Vec<Attempt> {
    let at = |name: &str| folder.join(name);
    let read = |path: PathBuf| move || fs::read(path).map(drop);
    let (state, log, run) = (at("state"), at("log"), at("run"));
    let archive = at("archive/chain1.pem");
    vec![
        attempt("reading the configuration", read(at("etc/gatepost.yaml"))),
        attempt("reading a list", read(at("etc/list"))),
        attempt("reading a certificate through its link", read(at("certificates/chain.pem"))),
        attempt("reading a key", read(at("archive/key1.pem"))),
        attempt("reading the certificate's folder", {
            let folder = at("archive");
            move || fs::read_dir(folder).map(drop)
        }),
        attempt("keeping state", move || {
            let (new, file, sub) = (state.join("a.new"), state.join("a"), state.join("b"));
            fs::write(&new, "x")?;
            fs::rename(&new, &file)?;
            fs::create_dir(&sub)?;
            fs::rename(&file, sub.join("a"))?;
            fs::File::open(&sub)?.sync_all()?;
            fs::remove_file(sub.join("a"))?;
            fs::remove_dir(&sub)
        }),
        attempt("opening a log anew after it was renamed", move || {
            let file = log.join("auth.log");
            let append = || fs::OpenOptions::new().append(true).create(true).open(&file);
            append()?.write_all(b"x\n")?;
            append()?.write_all(b"y\n")
        }),
        attempt("serving an admin socket", move || {
            let path = run.join("admin.sock");
            let listener = UnixListener::bind(&path)?;
            let answer = UnixStream::connect(&path).map(drop);
            drop(listener);
            fs::remove_file(path).and(answer)
        }),
        attempt("finding an address", || ("localhost", 0).to_socket_addrs().map(drop)),
        attempt("talking over TCP", || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            TcpStream::connect(listener.local_addr()?).map(drop)
        }),
        attempt("starting a thread", || {
            std::thread::Builder::new().spawn(|| ())?.join().map_err(|_| io::Error::other("panic"))
        }),
        attempt("counting its own descriptors", || fs::read_dir("/proc/self/fd").map(drop)),
        attempt("reading its own figures", read("/proc/self/stat".into())),
        attempt("random numbers", || fs::File::open("/dev/urandom")?.read_exact(&mut [0; 8])),
        attempt("reading a file that was renewed in its place", move || {
            let new = archive.with_extension("new");
            // Where nobody but root can write the folder is not ours to renew in.
            match fs::copy(&archive, &new) {
                Ok(_) => fs::rename(&new, &archive)?,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
            fs::read(archive).map(drop)
        }),
    ]
}

/// What whoever takes over a gateway would like to do.
pub fn forbidden(folder: &Path) -> Vec<(Attempt, InControl)> {
    let at = |name: &str| folder.join(name);
    let read = |path: PathBuf| move || fs::read(path).map(drop);
    let list = |path: &'static str| move || fs::read_dir(path).map(drop);
    let create = |path: PathBuf| {
        move || {
            let made = fs::File::create(&path).map(drop);
            fs::remove_file(path).or(made)
        }
    };
    let program = at("state/program");
    let other = abstract_socket(folder);
    let unchanged = at("etc/list");
    vec![
        (attempt("reading /etc/passwd", read("/etc/passwd".into())), Possible),
        (attempt("reading /etc/shadow", read("/etc/shadow".into())), Possible),
        (attempt("reading a file beside the gateway's folders", read(at("elsewhere/file"))), Possible),
        (attempt("reading a file out of the state by ..", read(at("state/../elsewhere/file"))), Possible),
        (
            attempt(
                "reading another process's variables",
                read(format!("/proc/{}/environ", nix::unistd::getppid()).into()),
            ),
            Possible,
        ),
        (
            attempt(
                "reading another process's memory map",
                read(format!("/proc/{}/maps", nix::unistd::getppid()).into()),
            ),
            Possible,
        ),
        (attempt("listing /", list("/")), Possible),
        (attempt("listing /etc", list("/etc")), Possible),
        (attempt("listing /proc", list("/proc")), Possible),
        (attempt("listing /tmp", list("/tmp")), Possible),
        (
            attempt(
                "making a file in /tmp",
                create(std::env::temp_dir().join(format!("gatepost-{}", std::process::id()))),
            ),
            Possible,
        ),
        (attempt("making a file beside the gateway's folders", create(at("elsewhere/new"))), Possible),
        (attempt("making a file among the certificates", create(at("archive/new.pem"))), Possible),
        (attempt("making a file beside the configuration", create(at("etc/new"))), Possible),
        (attempt("changing a list", move || fs::OpenOptions::new().append(true).open(unchanged).map(drop)), Possible),
        (
            attempt("making a link to a file outside", {
                let (from, to) = (at("elsewhere/file"), at("state/link"));
                move || fs::hard_link(from, &to).and_then(|()| fs::remove_file(to))
            }),
            Possible,
        ),
        (attempt("running a program", || Command::new("/bin/true").status().map(drop)), Possible),
        (attempt("becoming a program", || Err(Command::new("/bin/true").exec())), NotTried),
        (
            attempt("running a program of its own making", move || {
                fs::write(&program, "#!/bin/sh\n")?;
                fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
                Command::new(program).status().map(drop)
            }),
            Possible,
        ),
        (attempt("a raw socket", || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).map(drop)), Possible),
        (attempt("a socket to the wire", || Socket::new(Domain::PACKET, Type::DGRAM, None).map(drop)), Possible),
        (
            attempt("signalling a process outside", || Ok(nix::sys::signal::kill(nix::unistd::getppid(), None)?)),
            Possible,
        ),
        (attempt("an abstract socket outside", move || UnixStream::connect_addr(&other).map(drop)), Possible),
        (attempt("becoming root again, or whoever it is", || Ok(nix::unistd::setuid(Uid::effective())?)), Possible),
        (attempt("another root of the file system", || Ok(nix::unistd::chroot("/")?)), Possible),
        (
            attempt("allowing core dumps again", || {
                nix::sys::prctl::set_dumpable(true)?;
                Ok(nix::sys::prctl::set_dumpable(false)?)
            }),
            Possible,
        ),
    ]
}
