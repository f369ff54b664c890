// The sampler: files of /proc and /sys over a serial line, several times a second, only the lines that changed.
//
//   T <us>           a sample begins         F <path>       the lines that follow are of this file
//   <n> <text>       its line n is now this  # <n>          it has n lines now
//   E <us> <text>    an event                X <path>       the file is gone
//   R <pid>          the processes below this one are the workload
//   END              the last sample is complete
//
// It is locked in memory, never killed, and real-time: it must see the machine at its worst and take no part in it.
#include "lab.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { N_FILES = 16, FILE_BYTES = 64 << 10, OUT_BYTES = 1 << 20, N_NODES = 4, N_PROCESSES = 1024, STATUS_BYTES = 2048 };

struct source { char path[64]; int descriptor, lines; char text[FILE_BYTES]; };
static struct source sources[N_FILES];
struct process { int pid, lines, seen; char text[STATUS_BYTES]; };
static struct process *processes; // of the tree; pid 0: free
static char now[FILE_BYTES], out[OUT_BYTES];
static size_t out_bytes;
static int n_sources, serial;

static void flush_out(void) {
    for (size_t sent = 0; sent < out_bytes;) {
        ssize_t n = write(serial, out + sent, out_bytes - sent);
        if (n <= 0) break;
        sent += n;
    }
    out_bytes = 0;
}

static void put(const char *format, ...) {
    va_list arguments;
    if (out_bytes > OUT_BYTES - 1024) flush_out();
    va_start(arguments, format);
    int n = vsnprintf(out + out_bytes, OUT_BYTES - out_bytes, format, arguments);
    va_end(arguments);
    out_bytes += n;
}

static void add_source(const char *format, ...) {
    struct source *s = &sources[n_sources];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->path, sizeof s->path, format, arguments);
    va_end(arguments);
    s->descriptor = open(s->path, O_RDONLY);
    if (s->descriptor >= 0) n_sources++;
}

static void read_all(int descriptor, size_t limit) {
    size_t size = 0;
    for (ssize_t n; size < limit - 1; size += n)
        if ((n = pread(descriptor, now + size, limit - 1 - size, size)) <= 0) break;
    now[size] = 0;
}

// The requests as a file of their own.
static void read_counters(void) {
    size_t size = 0;
    for (int i = 0; i < N_COUNTERS; i++)
        size += snprintf(now + size, FILE_BYTES - size, "%s %lld\n", counter_names[i], (long long)counted(i));
}

// The lines of `now` that differ from `old`, which had `lines`; returns how many there are now.
static int put_changes(const char *path, char *old, size_t limit, int lines) {
    int line = 0;
    const char *before = old;
    put("F %s\n", path);
    for (const char *p = now; *p; line++) {
        size_t length = strcspn(p, "\n"), old_length = strcspn(before, "\n");
        if (line >= lines || length != old_length || memcmp(p, before, length)) put("%d %.*s\n", line, (int)length, p);
        p += length + (p[length] == '\n');
        before += old_length + (before[old_length] == '\n');
    }
    if (line != lines) put("# %d\n", line);
    memcpy(old, now, limit);
    return line;
}

static struct process *process_of(int pid) {
    struct process *free_one = 0;
    for (int i = 0; i < N_PROCESSES; i++)
        if (processes[i].pid == pid) return &processes[i];
        else if (!processes[i].pid && !free_one) free_one = &processes[i];
    if (free_one) *free_one = (struct process){.pid = pid};
    return free_one;
}

// /proc/<pid>/status of the workload's processes. They began after the root of their tree, so they have higher pids;
// what else does, the host leaves out.
static void put_processes(int root) {
    static DIR *proc;
    char path[64];
    if (!proc && !(proc = opendir("/proc"))) return;
    rewinddir(proc);
    for (struct dirent *entry; (entry = readdir(proc));) {
        int pid = atoi(entry->d_name);
        if (pid <= root) continue;
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        int file = open(path, O_RDONLY);
        if (file < 0) continue;
        read_all(file, STATUS_BYTES);
        close(file);
        struct process *p = strstr(now, "RssAnon") ? process_of(pid) : 0;
        if (!p) continue;
        p->seen = 1;
        p->lines = put_changes(path, p->text, STATUS_BYTES, p->lines);
    }
    for (struct process *p = processes; p < processes + N_PROCESSES; p++) {
        if (p->pid && !p->seen) { put("X /proc/%d/status\n", p->pid); p->pid = 0; }
        p->seen = 0;
    }
}

static void add_sources(int with_tree) {
    if (!with_tree) {
        strcpy(sources[n_sources].path, "requests");
        sources[n_sources++].descriptor = -1;
    }
    for (int node = 0; node < N_NODES; node++) {
        add_source("/sys/devices/system/node/node%d/vmstat", node);
        add_source("/sys/devices/system/node/node%d/meminfo", node);
    }
    add_source("/proc/zoneinfo");
    add_source("/proc/vmstat");
    add_source("/proc/buddyinfo");
    add_source("/proc/meminfo");
    if (with_tree) {
        add_source("/proc/sys/fs/inode-nr");
        add_source("/proc/sys/fs/dentry-state");
    }
}

int sampler(const char *hz, const char *device, int with_tree) {
    serial = open(device, O_WRONLY | O_NOCTTY);
    if (serial < 0) { perror(device); return 1; }
    sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 10});
    set_oom_score_adj("-1000");
    add_sources(with_tree);
    if (with_tree && !(processes = calloc(N_PROCESSES, sizeof *processes))) return 1;
    memset(out, 1, sizeof out); // touch it before the machine is full
    memset(now, 1, sizeof now);
    mlockall(MCL_CURRENT | MCL_FUTURE);

    int64_t period_us = 1000000 / atoi(hz), due = now_us(), us;
    for (int stop = 0, root = 0; !stop;) {
        const char *text;
        stop = stop_requested();
        while (next_event(&us, &text)) put("E %lld %s\n", (long long)us, text);
        put("T %lld\n", (long long)now_us());
        for (int i = 0; i < n_sources; i++) {
            struct source *s = &sources[i];
            if (s->descriptor < 0) read_counters(); else read_all(s->descriptor, FILE_BYTES);
            s->lines = put_changes(s->path, s->text, FILE_BYTES, s->lines);
        }
        if (with_tree && !root && (root = recorded_tree())) put("R %d\n", root);
        if (root) put_processes(root);
        flush_out();
        due += period_us;
        if (due > now_us()) usleep(due - now_us()); else due = now_us();
    }
    put("END\n");
    flush_out();
    return 0;
}
