// Counters and events in a file of a tmpfs, so that every process sees them and an OOM kill loses none.
#include "lab.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { N_EVENTS = 512, TEXT = 240 };

struct entry { _Atomic int ready; int64_t us; char text[TEXT]; };
static struct {
    _Atomic int64_t counters[N_COUNTERS];
    _Atomic int written, stop, tree;
    struct entry events[N_EVENTS];
} *report;
static int taken;

const char *const counter_names[N_COUNTERS] = {
    "anon_mapped_pages", "anon_touched_pages", "kv_touched_pages", "file_mapped_pages", "file_touched_pages",
    "sparse_va_pages", "sparse_leaf_tables", "threads", "procs", "files", "neg_lookups", "loops", "page_accesses",
};

int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

void open_report(void) {
    int file = open("/shm/report", O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *report)) { perror("/shm/report"); exit(1); }
    report = mmap(0, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (report == MAP_FAILED) { perror("mmap"); exit(1); }
    close(file);
}

void count(enum counter which, int64_t by) { atomic_fetch_add(&report->counters[which], by); }
int64_t counted(enum counter which) { return atomic_load(&report->counters[which]); }
void reset_counters(void) { for (int i = 0; i < N_COUNTERS; i++) atomic_store(&report->counters[i], 0); }
void request_stop(void) { atomic_store(&report->stop, 1); }
void record_tree_below(int pid) { atomic_store(&report->tree, pid); }
int recorded_tree(void) { return atomic_load(&report->tree); }
int stop_requested(void) { return atomic_load(&report->stop); }

void event(const char *format, ...) {
    struct entry *e = &report->events[atomic_fetch_add(&report->written, 1) % N_EVENTS];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(e->text, TEXT, format, arguments);
    va_end(arguments);
    e->us = now_us();
    atomic_store(&e->ready, 1);
}

int next_event(int64_t *us, const char **text) {
    struct entry *e = &report->events[taken % N_EVENTS];
    if (taken >= atomic_load(&report->written) || !atomic_load(&e->ready)) return 0;
    static char copy[TEXT];
    *us = e->us;
    memcpy(copy, e->text, TEXT);
    *text = copy;
    atomic_store(&e->ready, 0);
    taken++;
    return 1;
}

void pause_s(double seconds) { if (seconds > 0) usleep((useconds_t)(seconds * 1e6)); }

void set_oom_score_adj(const char *value) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    if (file < 0) return;
    if (write(file, value, strlen(value)) < 0) perror("oom_score_adj");
    close(file);
}
