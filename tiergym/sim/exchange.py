"""A kernel page on CXL and a cold page of DRAM change places, after Nimble's exchange of two pages [W-nimble].

Nimble swaps the contents of two pages in use word by word, so neither node needs a free page, and no mark is looked
at (its mm/exchange.c: exchange_page). It does so for anonymous pages; no kernel exchanges a page table with data.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.pages import swap_places
from tiergym.sim.reclaim import next_oldest
from tiergym.sim.regions import fast_pages, folio_pages, leave_swap_cache, region_class


@jit_inline
def exchangeable(m, r):
    """Pages of region r in DRAM that may go for one page each: on the LRU's lists, not part of a large folio, and where
    a kernel page may lie."""
    if m.region[r].mlocked == n.ON or folio_pages(m, r) > 1:
        return 0
    return fast_pages(m, r) - m.region[r].pages[n.MOVABLE]


@jit
def exchange_region(m, r, cls, pages):
    """`pages` of region r go to the slow NORMAL zone, whatever its mempolicy says, and kernel pages of a class come
    for them; adds these to `grant_pages`. Returns their number."""
    region = m.region[r]
    done = 0
    for z in range(n.NORMAL, -1, -1):
        moved = min(pages - done, region.pages[z])
        if moved <= 0:
            continue
        region.swap_cached[n.SLOW] += leave_swap_cache(m, r, z, moved)
        region.pages[z] -= moved
        region.pages[n.SLOW_NORMAL] += moved
        swap_places(m, cls, region_class(m, r), z, moved)
        m.grant_pages[z] += moved
        done += moved
    return done


@jit
def exchange_tail(m, cls, pages):
    """With pages that nobody references any more, in the order in which they were touched (`reclaim:reclaim_tail`)."""
    done = 0
    if m.unreferenced_regions == 0:
        return done
    oldest = next_oldest(m, -1)
    while oldest >= 0 and done < pages:
        for r in range(m.regions):
            if m.region[r].hz == 0.0 and m.region[r].since == oldest and done < pages:
                done += exchange_region(m, r, cls, min(pages - done, exchangeable(m, r)))
        oldest = next_oldest(m, oldest)
    return done


@jit
def exchange_cold(m, cls, pages):
    """With pages that no reference has reached within the LRU's window, of all regions in proportion
    (`reclaim:shrink_lruvec`)."""
    pool = 0
    for r in range(m.regions):
        pool += int(exchangeable(m, r) * m.region[r].cold)
    ask = min(pages, pool)
    done = 0
    for r in range(m.regions):
        cold = int(exchangeable(m, r) * m.region[r].cold)
        if cold > 0 and done < ask:
            done += exchange_region(m, r, cls, min(ask - done, (cold * ask + pool - 1) // pool))
    return done


@jit
def exchange_pages(m, cls, pages):
    """Exchange up to `pages` kernel pages of a class with cold pages of DRAM, those that reclaim would take first; a
    referenced page never goes. Returns the pairs exchanged."""
    done = exchange_tail(m, cls, pages)
    return done + exchange_cold(m, cls, pages - done) if done < pages else done
