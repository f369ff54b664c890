// The sampler: files of /proc and /sys over a serial line, several times a second, only the lines that changed.
//
//   T <us>           a sample begins         F <path>       the lines that follow are of this file
//   <n> <text>       its line n is now this  # <n>          it has n lines now
//   E <us> <text>    an event                END            the last sample is complete
//
// It is locked in memory, never killed, and real-time: it must see the machine at its worst and take no part in it.
#include "lab.h"
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { N_FILES = 13, FILE_BYTES = 64 << 10, OUT_BYTES = 1 << 20, N_NODES = 4 };

struct source { char path[64]; int descriptor, lines; char text[FILE_BYTES]; };
static struct source sources[N_FILES];
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

static void read_all(int descriptor) {
    size_t size = 0;
    for (ssize_t n; size < FILE_BYTES - 1; size += n)
        if ((n = pread(descriptor, now + size, FILE_BYTES - 1 - size, size)) <= 0) break;
    now[size] = 0;
}

// The requests as a file of their own.
static void read_counters(void) {
    size_t size = 0;
    for (int i = 0; i < N_COUNTERS; i++)
        size += snprintf(now + size, FILE_BYTES - size, "%s %lld\n", counter_names[i], (long long)counted(i));
}

static void put_changes(struct source *s) {
    int line = 0;
    char *old = s->text;
    put("F %s\n", s->path);
    for (char *p = now; *p; line++) {
        size_t length = strcspn(p, "\n"), old_length = strcspn(old, "\n");
        if (line >= s->lines || length != old_length || memcmp(p, old, length)) put("%d %.*s\n", line, (int)length, p);
        p += length + (p[length] == '\n');
        old += old_length + (old[old_length] == '\n');
    }
    if (line != s->lines) put("# %d\n", line);
    s->lines = line;
    memcpy(s->text, now, FILE_BYTES);
}

int sampler(const char *hz, const char *device) {
    serial = open(device, O_WRONLY | O_NOCTTY);
    if (serial < 0) { perror(device); return 1; }
    sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 10});
    set_oom_score_adj("-1000");
    strcpy(sources[n_sources].path, "requests");
    sources[n_sources++].descriptor = -1;
    for (int node = 0; node < N_NODES; node++) {
        add_source("/sys/devices/system/node/node%d/vmstat", node);
        add_source("/sys/devices/system/node/node%d/meminfo", node);
    }
    add_source("/proc/zoneinfo");
    add_source("/proc/vmstat");
    add_source("/proc/buddyinfo");
    add_source("/proc/meminfo");
    memset(out, 1, sizeof out); // touch it before the machine is full
    memset(now, 1, sizeof now);
    mlockall(MCL_CURRENT | MCL_FUTURE);

    int64_t period_us = 1000000 / atoi(hz), due = now_us(), us;
    for (int stop = 0; !stop;) {
        const char *text;
        stop = stop_requested();
        while (next_event(&us, &text)) put("E %lld %s\n", (long long)us, text);
        put("T %lld\n", (long long)now_us());
        for (int i = 0; i < n_sources; i++) {
            if (sources[i].descriptor < 0) read_counters(); else read_all(sources[i].descriptor);
            put_changes(&sources[i]);
        }
        flush_out();
        due += period_us;
        if (due > now_us()) usleep(due - now_us()); else due = now_us();
    }
    put("END\n");
    flush_out();
    return 0;
}
