// What the parts of the guest program share: counters of what the workloads have asked for, and events.
#pragma once
#include <stdint.h>

enum { PAGE = 4096, PAGES_PER_MIB = 256 };

// Requests, as `w.<name>` in a recording. names[] in report.c is in this order.
enum counter {
    ANON_MAPPED, ANON_TOUCHED, KV_TOUCHED, FILE_MAPPED, FILE_TOUCHED, SPARSE_VA, SPARSE_TABLES,
    THREADS, PROCS, FILES, NEG_LOOKUPS, LOOPS, ACCESSES, N_COUNTERS
};
extern const char *const counter_names[N_COUNTERS];

int64_t now_us(void);                       // CLOCK_MONOTONIC
void open_report(void);                     // map the memory that all processes of the lab report into
void count(enum counter which, int64_t by); // a request grew or shrank
int64_t counted(enum counter which);
void reset_counters(void);
void event(const char *format, ...) __attribute__((format(printf, 1, 2)));
int next_event(int64_t *us, const char **text); // 1 and the oldest event not yet taken, or 0
void request_stop(void);
int stop_requested(void);
void record_tree_below(int pid); // what the processes below this one ask for is recorded
int recorded_tree(void);         // that process, or 0

void pause_s(double seconds);
void set_oom_score_adj(const char *value);

int sampler(const char *hz, const char *device, int with_tree);

typedef int (*workload)(void); // arguments by number() and text()
workload workload_named(const char *name);
void set_arguments(int argc, char **argv);
