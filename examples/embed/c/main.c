/* Reads one digit, 64 float32 numbers in a file, with the exported classifier. */
#include "digits.h"
#include <stdio.h>

/* C99 has no way to ask for 64-byte alignment: there is room to begin at a multiple. */
static unsigned char memory[DIGITS_WORKSPACE_BYTES + 63];

int main(int count, char **arguments) {
    float image[DIGITS_INPUT_image_SIZE], probabilities[DIGITS_OUTPUT_probabilities_SIZE];
    int64_t digit[DIGITS_OUTPUT_digit_SIZE];
    const digits_inputs inputs = {image};
    const digits_outputs outputs = {probabilities, digit};
    void *workspace = memory + (64 - (uintptr_t)memory % 64) % 64;
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    int32_t status;

    if (!file || fread(image, sizeof *image, DIGITS_INPUT_image_SIZE, file) != DIGITS_INPUT_image_SIZE) {
        fputs("usage: main FILE (of 64 float32 numbers)\n", stderr);
        return 2;
    }
    fclose(file);
    status = digits_run(&inputs, NULL, &outputs, workspace, DIGITS_WORKSPACE_BYTES);
    if (status) {
        fprintf(stderr, "digits: %s\n", digits_strerror(status));
        return 1;
    }
    printf("this is a %d (probability %.3f)\n", (int)digit[0], (double)probabilities[digit[0]]);
    return 0;
}
