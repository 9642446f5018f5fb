//! Memory in large pages, for what searches read.
//!
//! A search of a million rows reads from tens of thousands of pages of 4 KiB, more than the processor remembers the places
//! of: finding them takes longer than reading them, and streams end at the end of each. Linux gives pages of 2 MiB to who asks for
//! them; it may refuse, then all is as before. Codes, and rows in bytes, are laid out in such pages by dlmalloc, apart from each
//! other: all codes are read, one after another, and few of the rows. Everything else is left to the system's allocator.
//! What a block is for can be seen of its alignment.
#![allow(unsafe_code, reason = "an allocator, and calls of the operating system")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

use super::{Line, Pair};

/// Bytes of a large page, and what the system is asked for at once.
const LARGE: usize = 2 << 20;

/// Bytes of the blocks that lie in large pages, if they are aligned to lines.
const SIZES: std::ops::RangeInclusive<usize> = 8 << 10..=LARGE / 2;

/// Alignments of such blocks.
const LINE: usize = align_of::<Line>();
/// See [`LINE`].
const PAIR: usize = align_of::<Pair>();

/// Where large pages come from.
struct LargePages;

// SAFETY: `alloc` returns memory that nobody else has, and nothing is released that was not asked for.
unsafe impl Allocator for LargePages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let Some(size) = size.checked_next_multiple_of(LARGE) else { return (null_mut(), 0, 0) };
        let Some(with_edges) = size.checked_add(LARGE) else { return (null_mut(), 0, 0) };
        let (may, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the system's choice. What is given back are its edges, before and behind
        // the aligned part, and the advice is about the part between.
        unsafe {
            let mapped = libc::mmap(null_mut(), with_edges, may, how, -1, 0);
            if mapped == libc::MAP_FAILED {
                return (null_mut(), 0, 0);
            }
            let start: *mut u8 = mapped.cast();
            let before = start.align_offset(LARGE);
            let aligned = start.add(before);
            if before > 0 {
                libc::munmap(mapped, before);
            }
            if before < LARGE {
                libc::munmap(aligned.add(size).cast(), LARGE - before);
            }
            // Refused where the system has no large pages: small ones do.
            libc::madvise(aligned.cast(), size, libc::MADV_HUGEPAGE);
            (aligned, size, 0)
        }
    }

    fn remap(&self, _start: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, start: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: the caller no longer uses what lies from `new` to `old`, and only whole large pages are given back.
        new.is_multiple_of(LARGE) && unsafe { libc::munmap(start.add(new).cast(), old - new) == 0 }
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: the caller no longer uses this mapping.
        unsafe { libc::munmap(start.cast(), size) == 0 }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        LARGE
    }
}

/// The allocator of everything that links this crate.
pub struct Memory {
    /// For what is aligned to one line.
    lines: Mutex<Dlmalloc<LargePages>>,
    /// For what is aligned to two.
    pairs: Mutex<Dlmalloc<LargePages>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[global_allocator]
static MEMORY: Memory = Memory { lines: Memory::arena(), pairs: Memory::arena() };

impl Memory {
    const fn arena() -> Mutex<Dlmalloc<LargePages>> {
        let mut large = Dlmalloc::new_with_allocator(LargePages);
        large.set_granularity(LARGE);
        Mutex::new(large)
    }

    /// The allocator of a block, if it is to lie in large pages.
    fn large(&self, layout: Layout) -> Option<MutexGuard<'_, Dlmalloc<LargePages>>> {
        let arena = match layout.align() {
            _ if !SIZES.contains(&layout.size()) => return None,
            LINE => &self.lines,
            PAIR => &self.pairs,
            _ => return None,
        };
        Some(arena.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// SAFETY: each block goes back to the allocator that it came from, which its size names.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that both allocators ask for.
        unsafe {
            match self.large(layout) {
                Some(mut large) => large.malloc(layout.size(), layout.align()),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match self.large(layout) {
                Some(mut large) => large.calloc(layout.size(), layout.align()),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the layout is the one that the block was asked for with.
        unsafe {
            match self.large(layout) {
                Some(mut large) => large.free(block, layout.size(), layout.align()),
                None => System.dealloc(block, layout),
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above. The caller promises that `size` makes a layout; a block that changes its allocator is copied.
        unsafe {
            let other = Layout::from_size_align_unchecked(size, layout.align());
            match (self.large(layout), SIZES.contains(&size)) {
                (None, false) => System.realloc(block, layout, size),
                (Some(mut large), true) => large.realloc(block, layout.size(), layout.align(), size),
                (guard, _) => {
                    drop(guard);
                    let moved = self.alloc(other);
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}
