// The workloads: each asks for one kind of memory at a given rate and counts what it has asked for.
#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PREFERRED = 1, BIND = 2, INTERLEAVE = 3 }; // linux/mempolicy.h

static int argc_;
static char **argv_;
void set_arguments(int argc, char **argv) { argc_ = argc; argv_ = argv; }

// The value of an argument `key=value`.
static const char *text(const char *key, const char *otherwise) {
    size_t length = strlen(key);
    for (int i = 0; i < argc_; i++)
        if (!strncmp(argv_[i], key, length) && argv_[i][length] == '=') return argv_[i] + length + 1;
    return otherwise;
}
static long number(const char *key, long otherwise) { const char *v = text(key, 0); return v ? atol(v) : otherwise; }
static long mib_pages(const char *key, long otherwise) { return number(key, otherwise) * PAGES_PER_MIB; }

static int policy_mode(const char *policy, unsigned long *nodes) {
    *nodes = 1UL << number("node", 0);
    if (!strcmp(policy, "bind")) return BIND;
    if (!strcmp(policy, "pref")) return PREFERRED;
    if (!strcmp(policy, "ileave")) { *nodes = 3; return INTERLEAVE; }
    return -1;
}
static void set_task_policy(void) {
    unsigned long nodes;
    int mode = policy_mode(text("pol", "none"), &nodes);
    if (mode >= 0 && syscall(SYS_set_mempolicy, mode, &nodes, 64)) event("set_mempolicy failed errno=%d", errno);
}
static void bind_range(char *memory, size_t bytes) {
    unsigned long nodes;
    int mode = policy_mode(text("pol", "none"), &nodes);
    if (mode >= 0 && syscall(SYS_mbind, memory, bytes, mode, &nodes, 64, 0)) event("mbind failed errno=%d", errno);
}

static char *anonymous(size_t bytes) {
    char *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) { event("mmap failed errno=%d", errno); exit(1); }
    return memory;
}

// Where a region's pages are: every step-th of them, by move_pages(2) without a move.
static void census(const char *region, char *memory, long pages, long step) {
    enum { BATCH = 512 };
    void *at[BATCH];
    int status[BATCH];
    long on[4] = {0}, absent = 0;
    for (long i = 0; i < pages;) {
        int n = 0;
        for (; n < BATCH && i < pages; i += step) at[n++] = memory + i * PAGE;
        if (syscall(SYS_move_pages, 0, n, at, 0, status, 0) < 0) { event("census %s errno=%d", region, errno); return; }
        for (int j = 0; j < n; j++)
            if (status[j] >= 0 && status[j] < 4) on[status[j]]++; else absent++;
    }
    event("census region=%s pages=%ld n0=%ld n1=%ld absent=%ld step=%ld", region, pages, on[0] * step, on[1] * step,
          absent * step, step);
}

static void report_self(const char *when) {
    char status[4096];
    int file = open("/proc/self/status", O_RDONLY);
    ssize_t n = read(file, status, sizeof status - 1);
    close(file);
    if (n < 0) return;
    status[n] = 0;
    char *tables = strstr(status, "VmPTE:"), *resident = strstr(status, "VmRSS:");
    event("self %s VmPTE_kB=%ld VmRSS_kB=%ld", when, tables ? atol(tables + 6) : -1, resident ? atol(resident + 6) : -1);
}

// Wait until item i of a run that began at start_us is due, at `rate` items per second (0: do not wait).
static void keep_rate(int64_t start_us, long i, long rate) {
    if (!rate) return;
    int64_t wait = start_us + (int64_t)i * 1000000 / rate - now_us();
    if (wait > 1000) usleep(wait);
}

static void hold(void) {
    const char *until = text("until", 0);
    if (!until) { pause_s(number("hold_ms", 2000) / 1000.0); return; }
    while (access(until, F_OK)) usleep(50000);
}

static void touch(char *memory, long pages, int write, enum counter which) {
    enum { BATCH = 256 };
    volatile char *at = memory;
    int64_t start = now_us();
    long rate = number("rate", 0), reported = 0;
    for (long i = 0; i < pages; i++) {
        if (write) at[i * PAGE] = 1; else (void)at[i * PAGE];
        if (i % BATCH == BATCH - 1) { count(which, BATCH); reported += BATCH; keep_rate(start, i, rate); }
    }
    count(which, pages - reported);
}

// llama: a model, touched once from front to back; a KV region; then threads loop over both.
struct reader { char *model, *kv; long first, last, kv_pages; };
static void *read_in_loops(void *argument) {
    struct reader *r = argument;
    volatile char *model = r->model, *kv = r->kv;
    long loops = number("loops", 20), ratio = number("ratio", 4);
    unsigned random = 1;
    for (long loop = 0; loop < loops; loop++) {
        long accesses = 0;
        for (long i = r->first; i < r->last; i++) {
            (void)model[i * PAGE];
            accesses++;
            if (r->kv_pages && i % ratio == 0) {
                random = random * 1664525u + 1013904223u;
                kv[(random >> 4) % r->kv_pages * PAGE] += 1;
                accesses++;
            }
            if ((accesses & 1023) == 0) { count(ACCESSES, accesses); accesses = 0; }
        }
        count(ACCESSES, accesses);
        count(LOOPS, 1);
        pause_s(number("pause_ms", 0) / 1000.0);
    }
    return 0;
}
static int llama(void) {
    enum { MOST_THREADS = 16 };
    long pages = mib_pages("model", 820), kv_pages = mib_pages("kv", 64), threads = number("threads", 2);
    const char *file = text("file", 0);
    char *model;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (file) {
        int descriptor = open(file, O_RDONLY);
        if (descriptor < 0) { event("open %s errno=%d", file, errno); return 1; }
        model = mmap(0, pages * PAGE, PROT_READ, MAP_SHARED, descriptor, 0);
    } else model = anonymous(pages * PAGE);
    enum counter mapped = file ? FILE_MAPPED : ANON_MAPPED, touched = file ? FILE_TOUCHED : ANON_TOUCHED;
    count(mapped, pages);
    bind_range(model, pages * PAGE);
    event("phase load_model pages=%ld kind=%s", pages, file ? "file" : "anon");
    touch(model, pages, !file, touched);
    census("model", model, pages, 8);
    report_self("after_load");

    char *kv = anonymous(kv_pages * PAGE + PAGE);
    count(ANON_MAPPED, kv_pages);
    event("phase kv_alloc pages=%ld", kv_pages);
    touch(kv, kv_pages, 1, KV_TOUCHED);
    census("kv", kv, kv_pages, 1);

    event("phase loop loops=%ld threads=%ld", number("loops", 20), threads);
    pthread_t thread[MOST_THREADS];
    struct reader reader[MOST_THREADS];
    for (long i = 0; i < threads; i++) {
        reader[i] = (struct reader){model, kv, pages * i / threads, pages * (i + 1) / threads, kv_pages};
        pthread_create(&thread[i], 0, read_in_loops, &reader[i]);
    }
    for (long i = 0; i < threads; i++) pthread_join(thread[i], 0);
    census("model", model, pages, 8);
    census("kv", kv, kv_pages, 1);
    report_self("after_loop");

    event("phase hold");
    pause_s(number("hold", 2));
    event("phase exit llama");
    munmap(model, pages * PAGE);
    munmap(kv, kv_pages * PAGE);
    count(mapped, -pages);
    count(touched, -pages);
    count(KV_TOUCHED, -kv_pages);
    count(ANON_MAPPED, -kv_pages);
    return 0;
}

// anon: touch mb MiB, or all of node 0 but leave_mb; hold; free.
static long pages_to_leave(long leave) {
    char info[65536], path[64];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%ld/meminfo", number("node", 0));
    int file = open(path, O_RDONLY);
    ssize_t n = read(file, info, sizeof info - 1);
    close(file);
    info[n > 0 ? n : 0] = 0;
    char *free_kb = strstr(info, "MemFree:");
    long pages = (free_kb ? atol(free_kb + 8) / 4 : 0) - leave;
    return pages > 0 ? pages : 0;
}
static int anon(void) {
    const char *name = text("name", "anon");
    long pages = mib_pages("mb", 100);
    set_oom_score_adj(text("adj", "0"));
    if (text("leave_mb", 0)) pages = pages_to_leave(mib_pages("leave_mb", 0));
    char *memory = anonymous(pages * PAGE + PAGE);
    bind_range(memory, pages * PAGE);
    count(ANON_MAPPED, pages);
    event("phase grow name=%s pages=%ld pol=%s node=%ld pid=%d", name, pages, text("pol", "none"), number("node", 0),
          getpid());
    touch(memory, pages, 1, ANON_TOUCHED);
    census(name, memory, pages, 8);
    report_self(name);
    event("phase hold name=%s", name);
    hold();
    census(name, memory, pages, 8);
    event("phase shrink name=%s", name);
    munmap(memory, pages * PAGE + PAGE);
    count(ANON_TOUCHED, -pages);
    count(ANON_MAPPED, -pages);
    event("phase freed name=%s", name);
    pause_s(number("after_ms", 0) / 1000.0);
    return 0;
}

// sparse: one touch per 2 MiB. mode=read maps the zero page (a table and no data), write adds a page.
static int sparse(void) {
    const char *name = text("name", "sparse"), *mode = text("mode", "read");
    long n = number("n", 20000);
    size_t step = number("step_kb", 2048) * 1024UL;
    set_oom_score_adj(text("adj", "0"));
    set_task_policy();
    char *memory = anonymous(n * step);
    madvise(memory, n * step, MADV_NOHUGEPAGE);
    count(SPARSE_VA, n * (step / PAGE));
    event("phase sparse_grow name=%s n=%ld mode=%s step=%zu pid=%d", name, n, mode, step, getpid());
    int64_t start = now_us();
    for (long i = 0; i < n; i++) {
        volatile char *at = memory + i * step;
        if (!strcmp(mode, "write")) *at = 1; else (void)*at;
        count(SPARSE_TABLES, 1);
        if (i % 64 == 63) keep_rate(start, i, number("rate", 0));
    }
    report_self(name);
    event("phase hold name=%s", name);
    hold();
    event("phase shrink name=%s", name);
    munmap(memory, n * step);
    count(SPARSE_TABLES, -n);
    count(SPARSE_VA, -n * (long)(step / PAGE));
    event("phase freed name=%s", name);
    pause_s(number("after_ms", 0) / 1000.0);
    return 0;
}

// threads: n of them, asleep, with the smallest user stacks.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static int end_threads;
static void *sleep_until_ended(void *unused) {
    pthread_mutex_lock(&mutex);
    while (!end_threads) pthread_cond_wait(&ended, &mutex);
    pthread_mutex_unlock(&mutex);
    return unused;
}
static int threads(void) {
    long n = number("n", 3000), made = 0;
    pthread_t *thread = calloc(n, sizeof *thread);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 32768);
    pthread_attr_setguardsize(&small, 0);
    set_oom_score_adj(text("adj", "0"));
    event("phase thread_storm n=%ld", n);
    for (int64_t start = now_us(); made < n; made++) {
        if (pthread_create(&thread[made], &small, sleep_until_ended, 0)) {
            event("pthread_create failed at %ld errno=%d", made, errno);
            break;
        }
        count(THREADS, 1);
        if (made % 32 == 31) keep_rate(start, made, number("rate", 0));
    }
    event("phase hold threads=%ld", made);
    hold();
    event("phase shrink threads=%ld", made);
    pthread_mutex_lock(&mutex);
    end_threads = 1;
    pthread_cond_broadcast(&ended);
    pthread_mutex_unlock(&mutex);
    for (long i = 0; i < made; i++) { pthread_join(thread[i], 0); count(THREADS, -1); }
    event("phase freed threads");
    pause_s(number("after_ms", 0) / 1000.0);
    return 0;
}

// procs: fork n children that touch kb each and sleep.
static int procs(void) {
    long n = number("n", 300), kb = number("kb", 64), made = 0;
    pid_t *child = calloc(n, sizeof *child);
    set_oom_score_adj(text("adj", "0"));
    event("phase fork_storm n=%ld kb=%ld", n, kb);
    for (int64_t start = now_us(); made < n; made++) {
        pid_t pid = fork();
        if (pid < 0) { event("fork failed at %ld errno=%d", made, errno); break; }
        if (!pid) {
            char *memory = anonymous(kb * 1024);
            for (long at = 0; at < kb * 1024; at += PAGE) memory[at] = 1;
            for (;;) pause();
        }
        child[made] = pid;
        count(PROCS, 1);
        if (made % 8 == 7) keep_rate(start, made, number("rate", 0));
    }
    event("phase hold procs=%ld", made);
    hold();
    event("phase shrink procs=%ld", made);
    for (long i = 0; i < made; i++) { kill(child[i], SIGKILL); waitpid(child[i], 0, 0); count(PROCS, -1); }
    event("phase freed procs");
    pause_s(number("after_ms", 0) / 1000.0);
    return 0;
}

// dentry: create n files, look them up, look up neg names that do not exist, delete.
static int dentry(void) {
    enum { PER_FOLDER = 2000 };
    long n = number("n", 50000), neg = number("neg", 0), made = 0;
    const char *dir = text("dir", "/t");
    char path[256];
    struct stat found;
    mkdir(dir, 0700);
    set_oom_score_adj(text("adj", "0"));
    event("phase files_create n=%ld dir=%s", n, dir);
    for (int64_t start = now_us(); made < n; made++) {
        snprintf(path, sizeof path, "%s/d%ld", dir, made / PER_FOLDER);
        if (made % PER_FOLDER == 0) mkdir(path, 0700);
        snprintf(path, sizeof path, "%s/d%ld/file-%ld", dir, made / PER_FOLDER, made);
        int file = open(path, O_CREAT | O_WRONLY, 0600);
        if (file < 0) { event("create failed at %ld errno=%d", made, errno); break; }
        close(file);
        count(FILES, 1);
        if (made % 64 == 63) keep_rate(start, made, number("rate", 0));
    }
    event("phase files_stat n=%ld", made);
    for (long i = 0; i < made; i++) {
        snprintf(path, sizeof path, "%s/d%ld/file-%ld", dir, i / PER_FOLDER, i);
        stat(path, &found);
    }
    if (neg) event("phase neg_lookup n=%ld", neg);
    for (long i = 0; i < neg; i++) {
        snprintf(path, sizeof path, "%s/none-%ld-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", dir, i);
        stat(path, &found);
        count(NEG_LOOKUPS, 1);
    }
    event("phase hold files=%ld", made);
    hold();
    if (!number("del", 1)) return 0;
    event("phase files_delete n=%ld", made);
    for (long i = 0; i < made; i++) {
        snprintf(path, sizeof path, "%s/d%ld/file-%ld", dir, i / PER_FOLDER, i);
        unlink(path);
        count(FILES, -1);
    }
    event("phase freed files");
    pause_s(number("after_ms", 0) / 1000.0);
    return 0;
}

// readfile: fill the page cache with mb MiB of a file by read(2).
static int readfile(void) {
    enum { CHUNK = 1 << 18 };
    static char buffer[CHUNK];
    long mib = number("mb", 100);
    int file = open(text("file", "/mnt/model"), O_RDONLY);
    if (file < 0) { event("open errno=%d", errno); return 1; }
    event("phase readfile mb=%ld", mib);
    for (long i = 0; i < mib * 4 && read(file, buffer, CHUNK) > 0; i++) count(FILE_TOUCHED, CHUNK / PAGE);
    event("phase readfile_done");
    return 0;
}

workload workload_named(const char *name) {
    static const struct { const char *name; workload run; } known[] = {
        {"llama", llama}, {"anon", anon}, {"sparse", sparse}, {"threads", threads},
        {"procs", procs}, {"dentry", dentry}, {"readfile", readfile},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) return known[i].run;
    return 0;
}
