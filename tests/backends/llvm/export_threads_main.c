/* What tests of exported threads run: each argument is one of the functions in `tests` below. It reads the inputs of
   the exported function `shared` from stdin, and calls it once before any thread is started: `results` writes what that
   gave to stdout, and whatever else is called must give the same bits. Where sanitizers and emulators have threads of
   their own, -DUNCOUNTED leaves out what counts them. */
#include "shared.h"
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CALLS
#define CALLS 20
#endif

enum { CALLERS = 8, X = SHARED_INPUT_x_SIZE, T = SHARED_INPUT_t_SIZE, OUTPUTS = 8 };

static const int sizes[OUTPUTS] = {
    SHARED_OUTPUT_y_SIZE, SHARED_OUTPUT_loss_SIZE, SHARED_OUTPUT_total_SIZE, SHARED_OUTPUT_columns_SIZE,
    SHARED_OUTPUT_g0_SIZE, SHARED_OUTPUT_g1_SIZE, SHARED_OUTPUT_g2_SIZE, SHARED_OUTPUT_g3_SIZE,
};

typedef struct {
    float *outputs[OUTPUTS];
    void *workspace;
} memory;

static float x[X];
static int64_t t[T];
static memory first; /* the outputs of a call before any thread was started */

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

static memory new_memory(void) {
    memory made;
    int i;
    for (i = 0; i < OUTPUTS; i++) {
        made.outputs[i] = (float *)calloc((size_t)sizes[i], sizeof(float));
        CHECK(made.outputs[i]);
    }
    CHECK(!posix_memalign(&made.workspace, 64, SHARED_SELFTEST_BYTES));
    return made;
}

static void free_memory(memory *given) {
    int i;
    for (i = 0; i < OUTPUTS; i++) free(given->outputs[i]);
    free(given->workspace);
}

static void run(memory *given) {
    shared_inputs inputs;
    shared_outputs outputs;
    float **own = given->outputs;
    inputs.x = x;
    inputs.t = t;
    outputs.y = own[0];
    outputs.loss = own[1];
    outputs.total = own[2];
    outputs.columns = own[3];
    outputs.g0 = own[4];
    outputs.g1 = own[5];
    outputs.g2 = own[6];
    outputs.g3 = own[7];
    CHECK(shared_run(&inputs, NULL, &outputs, given->workspace, SHARED_WORKSPACE_BYTES) == SHARED_OK);
}

static void run_and_compare(memory *given) {
    int i;
    for (i = 0; i < OUTPUTS; i++) memset(given->outputs[i], 0xA5, (size_t)sizes[i] * sizeof(float));
    run(given);
    for (i = 0; i < OUTPUTS; i++)
        CHECK(!memcmp(given->outputs[i], first.outputs[i], (size_t)sizes[i] * sizeof(float)));
}

#ifndef UNCOUNTED
/* The threads of this process. One that was joined may be listed for a moment more. */
static int listed(void) {
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;
    CHECK(folder);
    while ((entry = readdir(folder))) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}
#endif

static void expect_threads(int count) {
#ifdef UNCOUNTED
    (void)count;
#else
    int tries;
    for (tries = 0; tries < 500 && listed() != count; tries++) usleep(1000); /* the kernel lists ended threads for a while */
    CHECK(listed() == count);
#endif
}

static void bits(void) {
    static const int32_t counts[] = {1, 2, 3, 8, 2};
    memory own = new_memory();
    size_t i;
    int call;
    for (i = 0; i < sizeof counts / sizeof *counts; i++) {
        CHECK(shared_threads_start(counts[i]) == SHARED_OK);
        expect_threads(counts[i]);
        for (call = 0; call < CALLS; call++) run_and_compare(&own);
        CHECK(shared_selftest(own.workspace, SHARED_SELFTEST_BYTES) == SHARED_OK);
    }
    shared_threads_stop();
    expect_threads(1);
    run_and_compare(&own);
    free_memory(&own);
}

static void results(void) {
    int i;
    for (i = 0; i < OUTPUTS; i++) fwrite(first.outputs[i], sizeof(float), (size_t)sizes[i], stdout);
}

static void once(void) {
    memory own = new_memory();
    CHECK(shared_threads_start(2) == SHARED_OK);
    run_and_compare(&own);
    CHECK(shared_threads_start(3) == SHARED_OK);
    run_and_compare(&own);
    shared_threads_stop();
    free_memory(&own);
}

/* Without address space there is none for a thread's stack. */
static void refused(void) {
    struct rlimit before, none;
    memory own = new_memory();
    CHECK(!getrlimit(RLIMIT_AS, &before));
    none = before;
    none.rlim_cur = 1 << 20;
    CHECK(!setrlimit(RLIMIT_AS, &none));
    CHECK(shared_threads_start(2) == SHARED_NO_THREADS);
    CHECK(!setrlimit(RLIMIT_AS, &before));
    expect_threads(1);
    run_and_compare(&own);
    CHECK(shared_threads_start(2) == SHARED_OK);
    expect_threads(2);
    CHECK(shared_threads_start(3) == SHARED_OK);
    CHECK(shared_threads_start(0) == SHARED_BAD_THREADS);
    CHECK(shared_threads_start(-1) == SHARED_BAD_THREADS);
    CHECK(shared_threads_start(INT32_MIN) == SHARED_BAD_THREADS);
    CHECK(shared_threads_start(SHARED_THREADS + 1) == SHARED_BAD_THREADS);
    CHECK(shared_threads_start(INT32_MAX) == SHARED_BAD_THREADS);
    expect_threads(3);
    run_and_compare(&own);
    shared_threads_stop();
    free_memory(&own);
}

static void cycles(void) {
    memory own = new_memory();
    int i;
    for (i = 0; i < 60; i++) {
        CHECK(shared_threads_start(1 + i % SHARED_THREADS) == SHARED_OK);
        if (i % 3) run_and_compare(&own);
        if (i % 4 == 0) shared_threads_stop();
    }
    CHECK(shared_threads_start(3) == SHARED_OK);
    usleep(20000); /* much longer than threads spin: those that believed in an old stop would have ended */
    expect_threads(3);
    run_and_compare(&own);
    shared_threads_stop();
    shared_threads_stop();
    expect_threads(1);
    free_memory(&own);
}

static void *call(void *argument) {
    memory own = new_memory();
    int i;
    (void)argument;
    for (i = 0; i < CALLS; i++) run_and_compare(&own);
    free_memory(&own);
    return NULL;
}

static void *start_and_stop(void *argument) {
    int i;
    for (i = 0; i < 40; i++) {
        CHECK(shared_threads_start(1 + i % 4) == SHARED_OK);
        if (i % 5 == 0) shared_threads_stop();
    }
    (void)argument;
    return NULL;
}

/* Many call at once, first while the threads stay, then while two others start and stop them. */
static void callers(void) {
    pthread_t threads[CALLERS + 2];
    int round, i, count;
    for (round = 0; round < 2; round++) {
        CHECK(shared_threads_start(3) == SHARED_OK);
        count = round ? CALLERS + 2 : CALLERS;
        for (i = 0; i < count; i++) CHECK(!pthread_create(&threads[i], NULL, i < CALLERS ? call : start_and_stop, NULL));
        for (i = 0; i < count; i++) CHECK(!pthread_join(threads[i], NULL));
    }
    shared_threads_stop();
    expect_threads(1);
}

static void in_child(memory *own, void (*what)(memory *)) {
    int status = 0;
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        alarm(60); /* rather than to hang: what a child must not wait for is a thread of its parent */
        what(own);
        _exit(0); /* what the parent's other threads hold is lost here, and is no leak */
    }
    run_and_compare(own);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

static void start_anew(memory *own) {
    run_and_compare(own);
    expect_threads(1);
    CHECK(shared_threads_start(3) == SHARED_OK);
    expect_threads(3);
    run_and_compare(own);
    shared_threads_stop();
}

static void stop_at_once(memory *own) {
    shared_threads_stop();
    run_and_compare(own);
    expect_threads(1);
}

static void forks(void) {
    memory own = new_memory();
    pthread_t caller;
    CHECK(shared_threads_start(3) == SHARED_OK);
    run_and_compare(&own);
    in_child(&own, start_anew); /* the workers spin */
    usleep(20000);              /* longer than workers spin, so that they sleep now */
    in_child(&own, start_anew);
    in_child(&own, stop_at_once);
    CHECK(!pthread_create(&caller, NULL, call, NULL));
    usleep(500); /* the other thread has to get as far as its call, which takes longer */
    in_child(&own, start_anew);
    in_child(&own, stop_at_once);
    CHECK(!pthread_join(caller, NULL));
    shared_threads_stop();
    in_child(&own, start_anew);
    free_memory(&own);
}

static const struct {
    const char *name;
    void (*test)(void);
} tests[] = {
    {"results", results}, {"bits", bits}, {"once", once}, {"refused", refused}, {"cycles", cycles}, {"callers", callers}, {"forks", forks},
};

int main(int count, char **names) {
    int i;
    size_t j;
    CHECK(fread(x, sizeof *x, X, stdin) == X && fread(t, sizeof *t, T, stdin) == T);
    first = new_memory();
    run(&first);
    expect_threads(1); /* nobody has started any */
    for (i = 1; i < count; i++)
        for (j = 0; j < sizeof tests / sizeof *tests; j++)
            if (!strcmp(names[i], tests[j].name)) tests[j].test();
    free_memory(&first);
    return 0;
}
