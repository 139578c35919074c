/* read.c */
#include <stdio.h>
#include "digits.h"

static _Alignas(64) char workspace[DIGITS_WORKSPACE_BYTES];

int main(void) {
    float image[64], scores[10];
    for (int pixel = 0; pixel < 64; pixel++)
        if (scanf("%f", &image[pixel]) != 1) return 1;
    digits_inputs inputs = {image};
    digits_outputs outputs = {scores};
    int status = digits_run(&inputs, NULL, &outputs, workspace, sizeof workspace);
    if (status != DIGITS_OK) {
        fprintf(stderr, "%s\n", digits_strerror(status));
        return 1;
    }
    int best = 0;
    for (int digit = 1; digit < 10; digit++)
        if (scores[digit] > scores[best]) best = digit;
    printf("%d\n", best);
    return 0;
}
