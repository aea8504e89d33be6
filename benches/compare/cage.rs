//! A peer's processes: started on their core in a control group of their own, measured, and ended whatever happens.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The gateway's core, and the one of the load and the backend.
pub const GATEWAY_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

const PREFIX: &str = "gatepost-compare-";
const ROOT: &str = "/sys/fs/cgroup";

/// The running processes of one peer.
pub struct Cage {
    child: Child,
    groups: Groups,
}

/// Its control groups, as far as this machine lets us have them.
struct Groups {
    cpu: Option<(PathBuf, Clock)>,
    memory: Option<(PathBuf, Version)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// How a group's CPU time is read.
#[derive(Clone, Copy)]
enum Clock {
    /// `cpuacct.usage`, ns.
    Usage,
    /// `cpu.stat`, `usage_usec`.
    Stat,
}

impl Cage {
    /// Starts `program`, its output going to `log`.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let groups = Groups::make();
        let output = File::create(log)?;
        // The shell enters the groups before the program exists, so that all it is and starts is counted. Should this
        // process be killed, the program follows.
        let script = "for group in $1; do echo $$ > $group/cgroup.procs || exit 1; done; core=$2; shift 2; \
                      exec taskset -c $core setpriv --pdeathsig KILL \"$@\"";
        let child = Command::new("/bin/sh")
            .args(["-c", script, "sh", &groups.paths().join(" "), GATEWAY_CORE])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, groups })
    }

    /// Fails if the first process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("ended: {status}"),
            None => Ok(()),
        }
    }

    /// User and system time of all its processes, those that have ended included.
    pub fn cpu(&self) -> Result<Duration> {
        match &self.groups.cpu {
            Some((group, Clock::Usage)) => Ok(Duration::from_nanos(number(&group.join("cpuacct.usage"))?)),
            Some((group, Clock::Stat)) => Ok(Duration::from_micros(field(&group.join("cpu.stat"), "usage_usec")?)),
            // What ends between two readings is missed here; the peers' workers do not end.
            None => {
                let of = |pid: u32| tasks(pid).map(|task| number(&task.join("schedstat")).unwrap_or(0)).sum::<u64>();
                Ok(Duration::from_nanos(self.processes().into_iter().map(of).sum()))
            }
        }
    }

    /// Proportional share of memory of all its processes, in KiB.
    pub fn pss_kib(&self) -> u64 {
        let of = |pid: u32| field(Path::new(&format!("/proc/{pid}/smaps_rollup")), "Pss:").unwrap_or(0);
        self.processes().into_iter().map(of).sum()
    }

    /// What the kernel holds for it, in KiB, where a group counts that.
    pub fn kernel_kib(&self) -> Option<u64> {
        let (group, version) = self.groups.memory.as_ref()?;
        let bytes = match version {
            Version::One => {
                let tcp = number(&group.join("memory.kmem.tcp.usage_in_bytes")).unwrap_or(0);
                number(&group.join("memory.kmem.usage_in_bytes")).ok()? + tcp
            }
            Version::Two => {
                let stat = group.join("memory.stat");
                field(&stat, "kernel").ok()? + field(&stat, "sock").unwrap_or(0)
            }
        };
        Some(bytes / 1024)
    }

    /// All its processes.
    fn processes(&self) -> BTreeSet<u32> {
        match self.groups.paths().first() {
            Some(group) => members(Path::new(group)),
            None => descendants(self.child.id()),
        }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.processes();
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if (left.is_empty() && ended) || Instant::now() > patience {
                break;
            }
            end(&left);
            let _ = self.child.kill();
            std::thread::sleep(Duration::from_millis(10));
        }
        for group in self.groups.paths() {
            let _ = fs::remove_dir(group);
        }
    }
}

impl Groups {
    fn make() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let made = |hierarchy: &str, proof: &str| {
            let group = Path::new(ROOT).join(hierarchy).join(&name);
            let parent_is_there = group.parent().is_some_and(|parent| parent.join("cgroup.procs").exists());
            if !parent_is_there || (fs::create_dir(&group).is_err() && !group.exists()) {
                return None;
            }
            if group.join(proof).exists() {
                return Some(group);
            }
            let _ = fs::remove_dir(&group);
            None
        };
        // Of a machine with cgroup2 alone, its root lies where elsewhere the hierarchies do.
        let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+memory");
        let cpu = made("cpuacct", "cpuacct.usage").map(|group| (group, Clock::Usage));
        let cpu = cpu.or_else(|| made("", "cpu.stat").map(|group| (group, Clock::Stat)));
        let memory = made("memory", "memory.kmem.usage_in_bytes").map(|group| (group, Version::One));
        let memory = memory.or_else(|| {
            let group = Path::new(ROOT).join(&name);
            group.join("memory.stat").exists().then_some((group, Version::Two))
        });
        Self { cpu, memory }
    }

    fn paths(&self) -> Vec<String> {
        let both = [self.cpu.as_ref().map(|it| &it.0), self.memory.as_ref().map(|it| &it.0)];
        let mut paths: Vec<String> = both.into_iter().flatten().map(|path| path.display().to_string()).collect();
        paths.dedup();
        paths
    }
}

/// Ends what a comparison that was itself killed has left.
pub fn sweep() {
    for hierarchy in ["cpuacct", "memory", ""] {
        let Ok(entries) = fs::read_dir(Path::new(ROOT).join(hierarchy)) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
            for _ in 0..100 {
                end(&members(&entry.path()));
                if fs::remove_dir(entry.path()).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Puts this process, and all it starts from here on, on the core of the load.
pub fn pin_load() -> Result<()> {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-c", "-p", LOAD_CORE, &pid]).output().context("taskset")?;
    if !done.status.success() {
        bail!("taskset: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// The machine's slab, kernel stacks and page tables in KiB.
pub fn machine_kernel_kib() -> u64 {
    let meminfo = Path::new("/proc/meminfo");
    ["Slab:", "KernelStack:", "PageTables:"].iter().map(|name| field(meminfo, name).unwrap_or(0)).sum()
}

fn end(processes: &BTreeSet<u32>) {
    for pid in processes.iter().filter_map(|pid| i32::try_from(*pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn members(group: &Path) -> BTreeSet<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A process and all that came of it, by the parents that `/proc` names.
fn descendants(root: u32) -> BTreeSet<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Ok(parent) = field(&entry.path().join("status"), "PPid:") {
            parents.push((pid, parent));
        }
    }
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        let children = parents.iter().filter(|(_, parent)| u32::try_from(*parent).is_ok_and(|it| family.contains(&it)));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

fn tasks(pid: u32) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The first number of a file.
fn number(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.split_whitespace().next().and_then(|word| word.parse().ok()).context("no number")
}

/// The number behind a name in a file of such lines.
fn field(file: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut lines = text.lines().map(str::split_whitespace);
    let found = lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()).flatten());
    found.and_then(|word| word.parse().ok()).with_context(|| format!("{}: no {name}", file.display()))
}
