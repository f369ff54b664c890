"""Sizes of memory in one another, as on x86-64: base pages, page tables, pageblocks, struct pages, cache lines."""

PAGE_BYTES = 4096
KIB_PER_MIB = 1024
PAGE_KIB = PAGE_BYTES // 1024
PAGES_PER_MIB = KIB_PER_MIB // PAGE_KIB
LINE_BYTES = 64
"""A cache line."""
TABLE_ENTRIES = PAGE_BYTES // 8
LEAF_SPAN_PAGES = TABLE_ENTRIES
"""Pages that one leaf page table maps: 2 MiB."""
LEAF_SPAN_BYTES = LEAF_SPAN_PAGES * PAGE_BYTES
PAGEBLOCK_PAGES = 512
"""What the buddy allocator groups by migrate type: 2 MiB (pageblock_order)."""
STRUCT_PAGES_PER_PAGE = PAGE_BYTES // 64
"""Pages whose struct page, 64 bytes each, one page of memmap holds."""
LEAST_BLOCK_MIB = 128
"""A memory block of a machine with less than 64 GiB (arch/x86/mm/init_64.c: probe_memory_block_size)."""
