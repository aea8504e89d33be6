//! seccomp: system calls that a mail gateway never makes, refused with EPERM.
//!
//! A list of what is refused rather than of what is let through: the C library, the runtime and the name service's
//! modules choose their calls by version, and a gateway that ends with a new libc keeps nobody's mail safe. What is left
//! is bounded by Landlock and by not being root.

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch,
};
use std::collections::BTreeMap;

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;
#[cfg(target_arch = "riscv64")]
const ARCH: TargetArch = TargetArch::riscv64;

/// Never made, whatever the arguments.
const NEVER: &[c_long] = &[
    // Another program in our place, or another process's memory and files.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    // Another view of the file system, or a way round paths.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    // Parts of the kernel that attacks on it begin with.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // Another user: that is over.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// Those that this kind of processor has besides.
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_nfsservctl,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[c_long] = &[libc::SYS_nfsservctl];

/// Refuses them to this thread and to all that it starts.
pub(super) fn close() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(&program(refused()?, libc::EPERM)?)?;
    // clone3 keeps its flags in memory, where no filter sees them; told that there is none, the C library takes clone.
    seccompiler::apply_filter(&program(always([libc::SYS_clone3]), libc::ENOSYS)?)
}

type Rules = BTreeMap<c_long, Vec<Rule>>;

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, ARCH)?.try_into()
}

fn refused() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = always(NEVER.iter().chain(NEVER_HERE).copied());
    rules.insert(
        libc::SYS_clone,
        vec![
            // A process of its own; a thread is what may begin.
            Rule::new(vec![flag(0, libc::CLONE_THREAD, false)?])?,
        ],
    );
    let other_families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other_families = other_families.map(|family| Condition::new(0, Len::Dword, Op::Ne, number(family)));
    let mut sockets = vec![Rule::new(other_families.into_iter().collect::<Result<_, _>>()?)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        // The kind of socket is in the lowest four bits; netlink's are raw by name and are let through.
        let raw = Condition::new(1, Len::Dword, Op::MaskedEq(0xf), number(libc::SOCK_RAW))?;
        sockets.push(Rule::new(vec![Condition::new(0, Len::Dword, Op::Eq, number(family))?, raw])?);
    }
    rules.insert(libc::SYS_socket, sockets);
    // What was forbidden at the start stays so.
    let dumpable = Condition::new(0, Len::Dword, Op::Eq, number(libc::PR_SET_DUMPABLE))?;
    rules.insert(libc::SYS_prctl, vec![Rule::new(vec![dumpable])?]);
    if cfg!(target_arch = "x86_64") {
        // The same calls by their numbers of the x32 ABI, and those that only it has (arch/x86: syscall_64.tbl).
        const X32: c_long = 0x4000_0000;
        let numbers: Vec<_> = rules.keys().copied().chain(512..=547).map(|call| call | X32).collect();
        rules.extend(always(numbers));
    }
    Ok(rules)
}

/// No rule: the call is refused with any arguments.
fn always(calls: impl IntoIterator<Item = c_long>) -> Rules {
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

fn flag(argument: u8, flag: i32, is_set: bool) -> Result<Condition, seccompiler::BackendError> {
    let flag = number(flag);
    Condition::new(argument, Len::Qword, Op::MaskedEq(flag), if is_set { flag } else { 0 })
}

fn number(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_can_be_made_and_is_short_enough_for_the_kernel() {
        let program = program(refused().expect("rules"), libc::EPERM).expect("a program");
        // BPF_MAXINSNS
        assert!(program.len() < 4096, "{}", program.len());
    }
}
