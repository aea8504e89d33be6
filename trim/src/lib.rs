//! Gives memory that is free back to the system.
//!
//! glibc gives back of its own accord only what is free at the end of a heap. Behind nine thousand sessions that have
//! ended there always stands something that has not, so that the process would stay as large as it ever was. The one
//! call that helps has no safe name in any crate that is kept, and the gateway itself forbids `unsafe`: it stands here,
//! and nothing else does.

/// Gives back every free page of every heap. Where the C library has no such call, it does nothing.
///
/// It looks at all that is free: microseconds as a rule, a millisecond for each ten megabytes that are given back, and a thread
/// that wants memory of the same heap waits for it meanwhile.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // `int malloc_trim(size_t pad)`, glibc 2.1 and later (malloc_trim(3)).
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: it takes no pointer, may be called from any thread (MT-Safe), and touches no memory that is in use. Whether
        // it gave anything back is of no matter.
        unsafe { malloc_trim(0) };
    }
}
