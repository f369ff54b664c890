"""`/proc/zoneinfo` of a machine with one zone in use and one that is empty."""

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 34727
  pages free     3840
        boost    0
        min      41
        low      51
        high     61
        promo    71
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 2991, 24052, 24052, 24052)
      nr_free_pages 3840
      numa_hit     7
  pagesets
    cpu: 0
              count:    10
              high:     63
              batch:    1
  vm stats threshold: 4
    cpu: 1
              count:    5
              high:     63
              batch:    1
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 1, zone  Movable
  pages free     0
        boost    0
        min      32
        low      32
        high     32
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0, 0)
"""
