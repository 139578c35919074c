// Reads one digit, 64 float32 numbers in a file, with the exported classifier.
#include "digits.h"

#include <array>
#include <cstdio>
#include <fstream>

int main(int count, char **arguments) {
    alignas(64) static std::array<unsigned char, DIGITS_WORKSPACE_BYTES> workspace;
    std::array<float, DIGITS_INPUT_image_SIZE> image;
    std::array<float, DIGITS_OUTPUT_probabilities_SIZE> probabilities;
    std::array<std::int64_t, DIGITS_OUTPUT_digit_SIZE> digit;

    std::ifstream file(count == 2 ? arguments[1] : "", std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(image.data()), sizeof image)) {
        std::fputs("usage: main FILE (of 64 float32 numbers)\n", stderr);
        return 2;
    }
    const digits_inputs inputs = {image.data()};
    const digits_outputs outputs = {probabilities.data(), digit.data()};
    const std::int32_t status = digits_run(&inputs, nullptr, &outputs, workspace.data(), workspace.size());
    if (status != DIGITS_OK) {
        std::fprintf(stderr, "digits: %s\n", digits_strerror(status));
        return 1;
    }
    const auto answer = static_cast<std::size_t>(digit[0]);
    std::printf("this is a %d (probability %.3f)\n", static_cast<int>(answer),
                static_cast<double>(probabilities[answer]));
    return 0;
}
