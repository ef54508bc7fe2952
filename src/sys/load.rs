//! Reads the load page, one memfd per worker into which it writes its own counts.
//!
//! The page is mapped, not read with pread: a read through the mapping costs 5 ns, a pread of the
//! same 128 bytes 204 ns (measured, hot), so the dispatcher may look at every worker before every
//! choice; and only a mapping gives control over the order of the loads, which is what makes equal
//! versions at head and tail prove something (see [`LoadPage::read`]).

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of the memfd; one memory page, the least the kernel gives out anyway.
pub const PAGE_BYTES: usize = 4096;

/// Numbers in a page, each a native-endian f64.
pub const FIELDS: usize = 16;

/// Attempts to read a page that is being written meanwhile. A write takes about
/// 0.2 µs, so a third miss means a worker that died or stopped in the middle of one.
const ATTEMPTS: usize = 3;

/// The master's side of one worker's load page.
#[derive(Debug)]
pub struct LoadPage {
    fd: OwnedFd,
    mapping: NonNull<c_void>,
}

/// What a worker last wrote. Counts that were negative or not finite read as 0.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Page {
    /// Number of this report; grows by one with each, and starts at 1.
    pub version: u64,
    /// Handed connections that the worker has taken note of, accepted or refused.
    pub seen: u64,
    /// Of those, accepted and not yet closed.
    pub open: u64,
    /// Exchanges that the worker holds now.
    pub active: u64,
    /// The worker's own monotonic clock when it wrote this, in milliseconds.
    pub beat_ms: u64,
    /// Greatest event-loop delay of the last second, in milliseconds.
    pub loop_delay_ms: f64,
    /// Share of the last second in which the event loop was busy, 0 to 1.
    pub utilization: f64,
    /// Heap in use, in bytes.
    pub heap_used: u64,
    /// Limit of that heap, in bytes; 0 if unknown.
    pub heap_limit: u64,
    /// Exchanges finished since the worker started.
    pub finished: u64,
    /// Process that wrote this.
    pub pid: u32,
    /// Whether the worker says that it drains.
    pub draining: bool,
    /// Whether it can be debugged now, and so may stand still.
    pub inspected: bool,
    /// Whether it writes its heap, and so stands still.
    pub writes_heap: bool,
}

// SAFETY: the mapping belongs to this value alone and is only read, through atomics.
unsafe impl Send for LoadPage {}
// SAFETY: as above; concurrent reads of the same page are atomic loads.
unsafe impl Sync for LoadPage {}

impl LoadPage {
    /// Makes an empty page, close-on-exec and sealed, so that no worker can shrink it under us
    /// (which would kill the master with SIGBUS at the next read).
    ///
    /// # Errors
    /// Those of memfd_create(2), ftruncate(2), fcntl(2) and mmap(2).
    pub fn create() -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create("tenfold-load", flags)?;
        nix::unistd::ftruncate(&fd, PAGE_BYTES as libc::off_t)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        let length = NonZeroUsize::new(PAGE_BYTES).expect("a page is not empty");
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let mapping =
            unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &fd, 0) }?;
        Ok(Self { fd, mapping })
    }

    /// The descriptor that the worker inherits.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The last complete report; `None` before the first, and while one is being written.
    ///
    /// The worker writes upwards: head, counts, tail. Reading downwards (tail, counts, head) and
    /// finding both versions equal shows that the write of the tail had ended before the counts
    /// were read and the next write's head came after, so the counts are of one report. That holds
    /// where stores become visible in order (x86-64). Elsewhere the kernel's copy may, very rarely,
    /// be seen mixed; counts are absolute, so the next report heals it.
    #[must_use]
    pub fn read(&self) -> Option<Page> {
        (0..ATTEMPTS).find_map(|_| {
            let fields = self.load_downwards();
            let head = fields[0];
            (head == fields[FIELDS - 1] && head >= 1.0 && head.is_finite())
                .then(|| Page::from_fields(&fields))
        })
    }

    fn load_downwards(&self) -> [f64; FIELDS] {
        // SAFETY: the mapping is 4096 bytes, page-aligned, lives as long as `self`, and the seals
        // keep the file behind it at that length. Its memory is shared with another process, hence
        // atomics and no plain reads.
        let cells = unsafe { self.mapping.cast::<[AtomicU64; FIELDS]>().as_ref() };
        let mut fields = [0.0; FIELDS];
        fields[FIELDS - 1] = f64::from_bits(cells[FIELDS - 1].load(Ordering::Acquire));
        for (field, cell) in fields[1..FIELDS - 1].iter_mut().zip(&cells[1..FIELDS - 1]) {
            *field = f64::from_bits(cell.load(Ordering::Relaxed));
        }
        fence(Ordering::Acquire);
        fields[0] = f64::from_bits(cells[0].load(Ordering::Relaxed));
        fields
    }
}

impl Drop for LoadPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `create` with this length, and no reference into it
        // outlives a call of `load_downwards`.
        let unmapped = unsafe { munmap(self.mapping, PAGE_BYTES) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping failed: {unmapped:?}");
    }
}

impl Page {
    /// Turns a page's numbers into counts that cannot be out of range, whatever the worker wrote.
    fn from_fields(fields: &[f64; FIELDS]) -> Self {
        // A float cast saturates and takes NaN to 0; an infinite count is nonsense too, so 0.
        let count = |value: f64| if value.is_finite() { value as u64 } else { 0 };
        let clamp = |value: f64, most: f64| if value > 0.0 { value.min(most) } else { 0.0 };
        Self {
            version: count(fields[0]),
            seen: count(fields[1]),
            open: count(fields[2]),
            active: count(fields[3]),
            beat_ms: count(fields[4]),
            loop_delay_ms: if fields[5].is_finite() { clamp(fields[5], f64::MAX) } else { 0.0 },
            utilization: if fields[6].is_finite() { clamp(fields[6], 1.0) } else { 0.0 },
            heap_used: count(fields[7]),
            heap_limit: count(fields[8]),
            finished: count(fields[9]),
            pid: u32::try_from(count(fields[10])).unwrap_or(0),
            draining: count(fields[11]) & 1 == 1,
            inspected: count(fields[11]) & 2 == 2,
            writes_heap: count(fields[11]) & 4 == 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn bytes(fields: &[f64; FIELDS]) -> Vec<u8> {
        fields.iter().flat_map(|field| field.to_ne_bytes()).collect()
    }

    fn write(page: &LoadPage, fields: &[f64; FIELDS]) {
        let file = File::from(page.fd().try_clone_to_owned().expect("a free descriptor"));
        file.write_all_at(&bytes(fields), 0).expect("a sealed memfd is still writable");
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let page = LoadPage::create().expect("memfd");
        assert_eq!(page.read(), None, "nothing was reported yet");
        let flags = 5.0;
        write(
            &page,
            &[
                3.0, 12.0, 5.0, 2.0, 1500.5, 4.25, 0.5, 1e6, 2e9, 40.0, 77.0, flags, 0.0, 0.0, 0.0,
                3.0,
            ],
        );
        let read = page.read().expect("a whole report");
        let expected = Page {
            version: 3,
            seen: 12,
            open: 5,
            active: 2,
            beat_ms: 1500,
            loop_delay_ms: 4.25,
            utilization: 0.5,
            heap_used: 1_000_000,
            heap_limit: 2_000_000_000,
            finished: 40,
            pid: 77,
            draining: true,
            inspected: false,
            writes_heap: true,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_half_written_report_is_not_read() {
        let page = LoadPage::create().expect("memfd");
        let mut fields = [9.0; FIELDS];
        fields[FIELDS - 1] = 8.0;
        write(&page, &fields);
        assert_eq!(page.read(), None);
    }

    #[test]
    fn nonsense_reads_as_zero() {
        let page = LoadPage::create().expect("memfd");
        for nonsense in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY, -1.0] {
            let mut fields = [nonsense; FIELDS];
            fields[0] = 1.0;
            fields[FIELDS - 1] = 1.0;
            write(&page, &fields);
            let expected = Page { version: 1, ..Page::default() };
            assert_eq!(page.read(), Some(expected), "with {nonsense}");
            write(&page, &[nonsense; FIELDS]);
            assert_eq!(page.read(), None, "with version {nonsense}");
        }
        let mut fields = [1e300; FIELDS];
        fields[6] = 7.0;
        write(&page, &fields);
        let read = page.read().expect("a report");
        assert_eq!((read.open, read.utilization, read.pid), (u64::MAX, 1.0, 0));
    }

    #[test]
    fn a_worker_cannot_resize_the_page() {
        let page = LoadPage::create().expect("memfd");
        for length in [0, 1 << 20] {
            let error = nix::unistd::ftruncate(page.fd(), length).expect_err("sealed");
            assert_eq!(error, nix::errno::Errno::EPERM);
        }
    }

    #[test]
    fn a_report_is_never_mixed_from_two_while_a_worker_writes() {
        let page = LoadPage::create().expect("memfd");
        let reports: u32 = 200_000;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let file = File::from(page.fd().try_clone_to_owned().expect("a free descriptor"));
                for report in 1..=reports {
                    let fields = [f64::from(report); FIELDS];
                    file.write_all_at(&bytes(&fields), 0).expect("written");
                }
            });
            let mut last = 0;
            while !writer.is_finished() {
                let Some(read) = page.read() else { continue };
                assert!(read.version >= last, "reports go forwards");
                last = read.version;
                let counts = [read.seen, read.open, read.active, read.heap_used, read.finished];
                assert_eq!(counts, [last; 5]);
            }
        });
        assert_eq!(page.read().map(|read| read.version), Some(u64::from(reports)));
    }
}
