// The guest's one program, /gt: sampler and workloads, by its first argument.
#include "lab.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void report_exit(const char *command, pid_t pid, int status) {
    if (WIFSIGNALED(status)) event("child_exit cmd=%s pid=%d signal=%d", command, pid, WTERMSIG(status));
    else event("child_exit cmd=%s pid=%d status=%d", command, pid, WEXITSTATUS(status));
}

// Run a workload as a child that may be killed, and report how it ended.
static int watch(char **argv) {
    pid_t child = fork();
    if (!child) { argv[1] = "/gt"; execv("/gt", argv + 1); _exit(127); }
    set_oom_score_adj("-1000");
    int status;
    waitpid(child, &status, 0);
    report_exit(argv[2], child, status);
    return 0;
}

// Run a program as the root of the tree that is recorded, as `tiergym record` does: orphans stay in the tree.
static int tree(char **argv) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    record_tree_below(getpid());
    pid_t child = fork();
    if (!child) { execv(argv[2], argv + 2); _exit(127); }
    set_oom_score_adj("-1000");
    event("phase start cmd=%s pid=%d", argv[2], child);
    pid_t ended;
    int status;
    while ((ended = wait(&status)) != child) if (ended < 0) return 1;
    report_exit(argv[2], child, status);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *command = argv[1], *argument = argc > 2 ? argv[2] : "";
    open_report();
    if (!strcmp(command, "sampler") && argc > 3) return sampler(argument, argv[3], argc > 4 && *argv[4]);
    if (!strcmp(command, "tree") && argc > 2) return tree(argv);
    if (!strcmp(command, "watch") && argc > 2) return watch(argv);
    if (!strcmp(command, "event")) { event("%s", argument); return 0; }
    if (!strcmp(command, "sleep")) { pause_s(atof(argument)); return 0; }
    if (!strcmp(command, "reset")) { reset_counters(); return 0; }
    if (!strcmp(command, "stop")) { pause_s(0.5); request_stop(); return 0; }
    workload run = workload_named(command);
    if (!run) { fprintf(stderr, "unknown: %s\n", command); return 2; }
    set_arguments(argc - 2, argv + 2);
    return run();
}
