//! Memory in large pages, for what searches read.
//!
//! A search of a million rows reads from tens of thousands of pages of 4 KiB, more than the processor remembers the places
//! of: finding them takes longer than reading them, and streams end at the end of each. Linux gives pages of 2 MiB to who asks for
//! them; it may refuse, then all is as before. Blocks of the sizes that indexes are made of are laid out in such pages by
//! dlmalloc: codes, rows in bytes, and the rest apart from each other, because all codes are read, one after another, and few
//! of the rows. What a block is for can be seen of its alignment. Smaller and larger ones are left to the system's allocator,
//! which would keep those of the middle for each thread that ever asked for one.
#![allow(unsafe_code, reason = "an allocator, and calls of the operating system")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

use super::{Line, Pair};

/// Bytes of a large page, and what the system is asked for at once.
const LARGE: usize = 2 << 20;

/// Bytes behind each mapping that are never used: dlmalloc would make one of mappings that touch, and could not give back
/// parts of it.
const GAP: usize = 64 << 10;

/// Bytes of the blocks that lie in large pages.
const SIZES: std::ops::RangeInclusive<usize> = 8 << 10..=LARGE / 8;

/// Alignments of blocks that are read in searches.
const LINE: usize = align_of::<Line>();
/// See [`LINE`].
const PAIR: usize = align_of::<Pair>();

/// Where large pages come from.
struct LargePages;

// SAFETY: `alloc` returns memory that nobody else has, and nothing is released that was not asked for.
unsafe impl Allocator for LargePages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let Some(size) = size.checked_next_multiple_of(LARGE) else { return (null_mut(), 0, 0) };
        let Some(with_edges) = size.checked_add(LARGE + GAP) else { return (null_mut(), 0, 0) };
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
                libc::munmap(aligned.add(size + GAP).cast(), LARGE - before);
            }
            // Refused where the system has no large pages: small ones do.
            libc::madvise(aligned.cast(), size, libc::MADV_HUGEPAGE);
            (aligned, size, 0)
        }
    }

    fn remap(&self, _start: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, _start: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: the caller no longer uses this mapping.
        unsafe { libc::munmap(start.cast(), size + GAP) == 0 }
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

/// Blocks in large pages, and how many bytes of them came back since the last time that pages were given back.
struct Arena {
    blocks: Dlmalloc<LargePages>,
    /// Bytes of blocks in use.
    live: usize,
    freed: usize,
}

/// At most so many bytes must come back before pages are: giving them back, and getting them again, costs some 100 µs for each.
const FREED: usize = 8 * LARGE;

/// A smaller share of the bytes in use is enough, so that little is left when an index goes.
const SHARE: usize = 4;

impl Arena {
    const fn new() -> Mutex<Self> {
        let mut blocks = Dlmalloc::new_with_allocator(LargePages);
        blocks.set_granularity(LARGE);
        Mutex::new(Self { blocks, live: 0, freed: 0 })
    }

    /// A block.
    ///
    /// # Safety
    ///
    /// As [`GlobalAlloc::alloc`].
    unsafe fn malloc(&mut self, layout: Layout) -> *mut u8 {
        self.live += layout.size();
        // SAFETY: the caller's promise.
        unsafe { self.blocks.malloc(layout.size(), layout.align()) }
    }

    /// A block of zeros.
    ///
    /// # Safety
    ///
    /// As [`GlobalAlloc::alloc_zeroed`].
    unsafe fn calloc(&mut self, layout: Layout) -> *mut u8 {
        self.live += layout.size();
        // SAFETY: the caller's promise.
        unsafe { self.blocks.calloc(layout.size(), layout.align()) }
    }

    /// A block of another size with what was in this one.
    ///
    /// # Safety
    ///
    /// As [`GlobalAlloc::realloc`]; the block came from here.
    unsafe fn realloc(&mut self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.live = (self.live + size).saturating_sub(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.blocks.realloc(block, layout.size(), layout.align(), size) }
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// It came from here, and nobody uses it.
    unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.blocks.free(block, layout.size(), layout.align()) };
        self.live = self.live.saturating_sub(layout.size());
        self.freed += layout.size();
        // dlmalloc itself gives up when there is nothing to give back once.
        if self.freed >= (self.live / SHARE).clamp(LARGE / 2, FREED) {
            self.freed = 0;
            // SAFETY: nothing is asked of the caller.
            unsafe { self.blocks.trim(LARGE) };
        }
    }
}

/// An allocator for all memory of a program, or of a module that Python loads.
pub struct Memory {
    /// For what is aligned to one line.
    lines: Mutex<Arena>,
    /// For what is aligned to two.
    pairs: Mutex<Arena>,
    /// For everything else, rows in `f32` above all.
    others: Mutex<Arena>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// Nothing has been asked for yet.
    #[allow(clippy::new_without_default, reason = "a static is made of it")]
    pub const fn new() -> Self {
        Self { lines: Arena::new(), pairs: Arena::new(), others: Arena::new() }
    }

    /// The allocator of a block, if it is to lie in large pages.
    fn large(&self, layout: Layout) -> Option<MutexGuard<'_, Arena>> {
        if !SIZES.contains(&layout.size()) {
            return None;
        }
        let arena = match layout.align() {
            LINE => &self.lines,
            PAIR => &self.pairs,
            _ => &self.others,
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
                Some(mut large) => large.malloc(layout),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match self.large(layout) {
                Some(mut large) => large.calloc(layout),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the layout is the one that the block was asked for with.
        unsafe {
            match self.large(layout) {
                Some(mut large) => large.free(block, layout),
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
                (Some(mut large), true) => large.realloc(block, layout, size),
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

#[cfg(test)]
mod tests {
    use super::{GlobalAlloc, LARGE, LINE, Layout, Memory, PAIR, SIZES};

    /// A block and what it was filled with.
    struct Block(*mut u8, Layout, u8);

    impl Block {
        fn bytes(&self) -> &[u8] {
            // SAFETY: the block is as long as its layout and has been filled.
            unsafe { std::slice::from_raw_parts(self.0, self.1.size()) }
        }

        fn fill(&mut self, byte: u8) {
            self.2 = byte;
            // SAFETY: as above.
            unsafe { self.0.write_bytes(byte, self.1.size()) };
        }
    }

    #[test]
    fn blocks_keep_what_is_in_them_whatever_happens_to_others() {
        let memory = Memory::new();
        let mut state = 17_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let mut blocks: Vec<Block> = Vec::new();
        for round in 0..4000 {
            // Around both ends of the sizes in large pages, too.
            let size = [
                1 + noise() % 64,
                SIZES.start() - 1,
                *SIZES.start(),
                1 + noise() % 100_000,
                *SIZES.end(),
                SIZES.end() + 1,
            ][noise() % 6];
            let byte = round as u8;
            match noise() % 3 {
                0 if blocks.len() > 20 => {
                    let block = blocks.swap_remove(noise() % blocks.len());
                    // SAFETY: it came from there with this layout.
                    unsafe { memory.dealloc(block.0, block.1) };
                }
                1 if !blocks.is_empty() => {
                    let at = noise() % blocks.len();
                    let block = &mut blocks[at];
                    let kept = block.1.size().min(size);
                    // SAFETY: as above, and the new size makes a layout.
                    block.0 = unsafe { memory.realloc(block.0, block.1, size) };
                    block.1 = Layout::from_size_align(size, block.1.align()).unwrap();
                    assert!(block.bytes()[..kept].iter().all(|&byte| byte == block.2));
                    block.fill(byte);
                }
                _ => {
                    let layout = Layout::from_size_align(size, [1, 8, LINE, PAIR][noise() % 4]).unwrap();
                    let zeroed = noise() % 2 == 0;
                    // SAFETY: the layout is not empty.
                    let start = unsafe { if zeroed { memory.alloc_zeroed(layout) } else { memory.alloc(layout) } };
                    assert!(!start.is_null() && start.align_offset(layout.align()) == 0);
                    let mut block = Block(start, layout, 0);
                    assert!(!zeroed || block.bytes().iter().all(|&byte| byte == 0));
                    block.fill(byte);
                    blocks.push(block);
                }
            }
            if round % 50 == 0 {
                assert!(blocks.iter().all(|block| block.bytes().iter().all(|&byte| byte == block.2)));
            }
        }
        for block in blocks {
            // SAFETY: as above.
            unsafe { memory.dealloc(block.0, block.1) };
        }
    }

    /// Bytes of address space that the process has.
    fn mapped() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn what_is_given_back_goes_back_to_the_system() {
        let memory = Memory::new();
        let layout = Layout::from_size_align(30_720, LINE).unwrap();
        let before = mapped();
        // SAFETY: the layout is not empty.
        let blocks: Vec<*mut u8> = (0..4000).map(|_| unsafe { memory.alloc(layout) }).collect();
        assert!(mapped() > before + 3500 * layout.size());
        for block in blocks {
            // SAFETY: it came from there with this layout.
            unsafe { memory.dealloc(block, layout) };
        }
        // Other tests run beside this one.
        assert!(mapped() < before + 1000 * layout.size() + 8 * LARGE);
    }
}
