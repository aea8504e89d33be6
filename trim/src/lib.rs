//! Gives memory that is free back to the system.
//!
//! glibc gives back of its own accord only what is free at the end of a heap. Behind nine thousand sessions that have
//! ended there always stands something that has not, so that the process would stay as large as it ever was. And what a
//! program ran to start, it never runs again, while its pages count as the process's for as long as that lasts. The two
//! calls that help have no safe name in any crate that is kept, and the gateway itself forbids `unsafe`: they stand here,
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

/// Gives back the pages of the program's own code, as after starting: most of them were for reading the configuration and for
/// setting up, and each one that is run again is there again at its next use, from the page cache, without a read from disk.
///
/// Nothing is lost: only segments that are code are let go, and nobody may write to those. Where the system is not Linux, it
/// does nothing.
pub fn let_go_of_code() {
    #[cfg(target_os = "linux")]
    // SAFETY: `program` is called by dl_iterate_phdr(3) with a valid record, and reads nothing but that and the program headers
    // it points at, which stay mapped as long as the program runs.
    unsafe {
        libc::dl_iterate_phdr(Some(program), std::ptr::null_mut());
    }
}

/// Lets go of the code of the first object of a process, which is the program, and asks for no other: libraries are shared.
#[cfg(target_os = "linux")]
unsafe extern "C" fn program(object: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) hands over a valid record, and as many program headers as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() {
            return 1;
        }
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & (libc::PF_X | libc::PF_W) != libc::PF_X {
            continue;
        }
        // SAFETY: it asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
        let numbers = (usize::try_from(base), usize::try_from(header.p_vaddr), usize::try_from(header.p_memsz), page);
        let (Ok(base), Ok(offset), Ok(length), Ok(page @ 1..)) = numbers else { continue };
        // Whole pages of the segment: what shares one with its neighbours stays.
        let (begin, end) = ((base + offset).next_multiple_of(page), (base + offset + length) / page * page);
        if begin >= end || !is_of_a_file(begin, end) {
            continue;
        }
        let code = std::ptr::with_exposed_provenance_mut(begin);
        // SAFETY: the range is code that is mapped from a file, and never to be written (PF_X without PF_W), so no page of it
        // holds anything that the file does not, and MADV_DONTNEED (madvise(2)) makes the next use of each map it from there
        // again. What the call says is of no matter.
        unsafe { libc::madvise(code, end - begin, libc::MADV_DONTNEED) };
    }
    1
}

/// Whether one mapping of a file, to be read and run alone, holds all of the range: a program may have been unpacked into memory
/// that no file stands behind, and would be gone (proc_pid_maps(5)).
#[cfg(target_os = "linux")]
fn is_of_a_file(begin: usize, end: usize) -> bool {
    let Ok(mappings) = std::fs::read_to_string("/proc/self/maps") else { return false };
    mappings.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp"), Some(inode)) = (words.next(), words.next(), words.nth(2)) else { return false };
        let Some((from, to)) = range.split_once('-') else { return false };
        let number = |text| usize::from_str_radix(text, 16).ok();
        inode != "0" && number(from).is_some_and(|from| from <= begin) && number(to).is_some_and(|to| end <= to)
    })
}
