/* Learns the handwritten digits from scratch: the exported step is all that computes.

   Usage: main FOLDER (of train.f32, train.i64, test.f32, test.i64) */
#include "classify.h"
#include "step.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 64, BATCH = STEP_INPUT_labels_SIZE, EPOCHS = 20 };

typedef struct digits {
    float *images;
    int64_t *labels;
    size_t count;
} digits;

static void *wanted(void *memory) {
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* A whole file; the number of its bytes in *bytes. */
static void *contents(const char *folder, const char *name, size_t *bytes) {
    char path[4096];
    long length;
    void *memory;
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) || (length = ftell(file)) < 0 || fseek(file, 0, SEEK_SET)) {
        perror(path);
        exit(1);
    }
    *bytes = (size_t)length;
    memory = wanted(malloc(*bytes));
    if (fread(memory, 1, *bytes, file) != *bytes) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return memory;
}

/* Numbers of a linear congruential generator, the upper half of their bits. */
static uint32_t drawn(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* He's initialisation, from a uniform distribution: weights of a layer with so many inputs. */
static float *initial(size_t size, double inputs, uint64_t *state) {
    float *weights = wanted(malloc(size * sizeof *weights));
    double bound = sqrt(6.0 / inputs);
    size_t i;
    for (i = 0; i < size; i++) weights[i] = (float)(bound * (drawn(state) / 2147483648.0 - 1.0));
    return weights;
}

static float *zeros(size_t size) { return wanted(calloc(size, sizeof(float))); }

/* Aligned as a workspace must be; never freed. */
static void *aligned(size_t bytes) {
    unsigned char *memory = wanted(malloc(bytes + 63));
    return memory + (64 - (uintptr_t)memory % 64) % 64;
}

static void check(int32_t status, const char *text) {
    if (!status) return;
    fprintf(stderr, "%s\n", text);
    exit(1);
}

int main(int count, char **arguments) {
    digits train, test;
    size_t bytes, i, at, right = 0;
    int epoch;
    uint64_t seed = 1;
    float rate = 6e-3f, steps = 0.0f, loss = 0.0f;
    float images[STEP_INPUT_images_SIZE];
    int64_t labels[BATCH], digit;
    size_t *order;
    step_params params;
    classify_params known;
    const step_inputs inputs = {images, labels};
    const step_outputs outputs = {&loss};
    void *workspace = aligned(STEP_WORKSPACE_BYTES), *small = aligned(CLASSIFY_WORKSPACE_BYTES);

    if (count != 2) {
        fputs("usage: main FOLDER\n", stderr);
        return 2;
    }
    train.images = contents(arguments[1], "train.f32", &bytes);
    train.labels = contents(arguments[1], "train.i64", &bytes);
    train.count = bytes / sizeof *train.labels;
    test.images = contents(arguments[1], "test.f32", &bytes);
    test.labels = contents(arguments[1], "test.i64", &bytes);
    test.count = bytes / sizeof *test.labels;

    params.w_0_weight = initial(STEP_PARAM_w_0_weight_SIZE, PIXELS, &seed);
    params.w_0_bias = zeros(STEP_PARAM_w_0_bias_SIZE);
    params.w_2_weight = initial(STEP_PARAM_w_2_weight_SIZE, STEP_PARAM_w_0_bias_SIZE, &seed);
    params.w_2_bias = zeros(STEP_PARAM_w_2_bias_SIZE);
    params.exp_avg_0_weight = zeros(STEP_PARAM_w_0_weight_SIZE);
    params.exp_avg_sq_0_weight = zeros(STEP_PARAM_w_0_weight_SIZE);
    params.exp_avg_0_bias = zeros(STEP_PARAM_w_0_bias_SIZE);
    params.exp_avg_sq_0_bias = zeros(STEP_PARAM_w_0_bias_SIZE);
    params.exp_avg_2_weight = zeros(STEP_PARAM_w_2_weight_SIZE);
    params.exp_avg_sq_2_weight = zeros(STEP_PARAM_w_2_weight_SIZE);
    params.exp_avg_2_bias = zeros(STEP_PARAM_w_2_bias_SIZE);
    params.exp_avg_sq_2_bias = zeros(STEP_PARAM_w_2_bias_SIZE);
    params.lr = &rate;
    params.step = &steps;

    order = wanted(malloc(train.count * sizeof *order));
    for (i = 0; i < train.count; i++) order[i] = i;
    for (epoch = 1; epoch <= EPOCHS; epoch++) {
        double total = 0.0;
        for (i = train.count - 1; i > 0; i--) { /* Fisher and Yates */
            size_t other = drawn(&seed) % (i + 1), kept = order[i];
            order[i] = order[other];
            order[other] = kept;
        }
        for (at = 0; at + BATCH <= train.count; at += BATCH) {
            int32_t status;
            for (i = 0; i < BATCH; i++) {
                memcpy(images + i * PIXELS, train.images + order[at + i] * PIXELS, PIXELS * sizeof *images);
                labels[i] = train.labels[order[at + i]];
            }
            status = step_run(&inputs, &params, &outputs, workspace, STEP_WORKSPACE_BYTES);
            check(status, step_strerror(status));
            total += (double)loss;
        }
        printf("epoch %2d: loss %.4f\n", epoch, total / (double)(train.count / BATCH));
    }

    known.w_0_weight = params.w_0_weight; /* two exported functions, one set of params */
    known.w_0_bias = params.w_0_bias;
    known.w_2_weight = params.w_2_weight;
    known.w_2_bias = params.w_2_bias;
    for (i = 0; i < test.count; i++) {
        const classify_inputs image = {test.images + i * PIXELS};
        const classify_outputs answer = {&digit};
        int32_t status = classify_run(&image, &known, &answer, small, CLASSIFY_WORKSPACE_BYTES);
        check(status, classify_strerror(status));
        right += digit == test.labels[i];
    }
    printf("%.2f%% of %d held-out digits\n", 100.0 * (double)right / (double)test.count, (int)test.count);
    return 100 * right < 95 * test.count;
}
