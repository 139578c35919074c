/* The reference of `vecmath_exhaustive.py`: errors of float32 functions against the C library's double ones.
 *
 * Compiled and loaded at run time.  A double's error of a few units in its last place is some 2^-28 units of float32.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 4096 };
typedef void (*kernel)(void *out, const void *x, const void *y, int64_t count);

typedef struct {
    double error;   /* the largest, in units in the last place */
    float x, y;     /* where it is */
    int64_t count;  /* inputs */
} worst;

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }
static double ndtr(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
static double density(double x) { return 0.39894228040143267794 * exp(-0.5 * x * x); }
/* At infinity the products have their limits. */
static double gelu(double x) { return isinf(x) ? (x > 0 ? x : -0.0) : x * ndtr(x); }
static double gelu_slope(double x) { return isinf(x) ? x > 0 : ndtr(x) + x * density(x); }

typedef double (*unary)(double);
typedef double (*binary)(double, double);

static const struct { const char *name; unary one; binary two; } REFERENCES[] = {
    {"exp", exp, 0}, {"expm1", expm1, 0}, {"log", log, 0}, {"log1p", log1p, 0}, {"sin", sin, 0}, {"cos", cos, 0},
    {"tan", tan, 0}, {"tanh", tanh, 0}, {"sigmoid", sigmoid, 0}, {"softplus", softplus, 0}, {"erf", erf, 0},
    {"sqrt", sqrt, 0}, {"rsqrt", rsqrt, 0}, {"ndtr", ndtr, 0}, {"gelu", gelu, 0}, {"gelu_slope", gelu_slope, 0},
    {"pow", 0, pow}, {"atan2", 0, atan2},
};

/* The number of a function, or -1. */
int reference_index(const char *name) {
    for (unsigned i = 0; i < sizeof REFERENCES / sizeof *REFERENCES; i++)
        if (!strcmp(REFERENCES[i].name, name)) return (int)i;
    return -1;
}

static uint32_t bits_of(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
static float from_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }

/* |got - exact| in units in the last place of exact rounded to float32; infinity where NaN, infinity or the sign of a
 * zero disagree.  A reference that rounds to infinity asks for infinity. */
static double ulp_error(float got, double exact) {
    float rounded = (float)exact;
    if (isnan(rounded) || isnan(got)) return isnan(rounded) && isnan(got) ? 0 : INFINITY;
    if (got == rounded && isinf(rounded)) return 0;
    if (got == 0 && rounded == 0 && signbit(got) != signbit(rounded)) return INFINITY;
    uint32_t exponent = bits_of(rounded) >> 23 & 255;
    if (exponent == 255) exponent = 254;
    if (exponent == 0) exponent = 1;
    uint64_t inverse_bits = (uint64_t)(1023 + 150 - exponent) << 52;
    double inverse; /* 1 / spacing */
    memcpy(&inverse, &inverse_bits, 8);
    return fabs((double)got - exact) * inverse;
}

/* Every `stride`-th block of 4096 of the float32 patterns from `first` on, `blocks` of them. */
void sweep_unary(kernel function, int reference, int64_t first, int64_t blocks, int64_t stride, float low, float high,
                 worst *result) {
    static _Thread_local float x[BLOCK], got[BLOCK];
    unary exact = REFERENCES[reference].one;
    for (int64_t block = 0; block < blocks; block++) {
        int64_t start = first + block * stride * BLOCK;
        for (int i = 0; i < BLOCK; i++) x[i] = from_bits((uint32_t)(start + i));
        float one = x[0], other = x[BLOCK - 1]; /* a block has one sign, and grows in magnitude */
        if ((one < low && other < low) || (one > high && other > high)) continue;
        function(got, x, x, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            if (!(x[i] >= low && x[i] <= high) && !(isnan(x[i]) && high == INFINITY)) continue;
            double error = ulp_error(got[i], exact(x[i]));
            result->count++;
            if (error > result->error) { result->error = error; result->x = x[i]; }
        }
    }
}

/* splitmix64: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double uniform(uint64_t *state, double low, double high) {
    return low + (high - low) * (double)(next_random(state) >> 11) * 0x1p-53;
}

static const float SPECIAL[] = {
    0.0f, 1e-45f, 1e-42f, 0x1p-126f, 0x1p-64f, 0x1p-24f, 0.5f, 0x1.fffffep-1f, 1.0f, 0x1.000002p0f, 1.5f, 2.0f, 3.0f,
    0x1p12f, 0x1.000002p22f, 0x1.fffffep23f, 0x1p24f, 0x1p31f, 0x1p64f, 0x1.fffffep127f, INFINITY, NAN,
};
enum { SPECIALS = sizeof SPECIAL / sizeof *SPECIAL };

static float special_value(uint64_t *state) {
    uint64_t random = next_random(state);
    float value = SPECIAL[(random >> 1) % SPECIALS];
    return random & 1 ? -value : value;
}

/* A pair of one of eight strata: any two patterns (2 of 8), a special value and any pattern or two special values,
 * near in magnitude, and four where a power is a normal number: any base, a base near 1, an integer exponent, a result
 * near the ends of float32. */
static void random_pair(uint64_t *state, int stratum, float *x, float *y) {
    uint64_t random = next_random(state);
    float any = from_bits((uint32_t)random), other = from_bits((uint32_t)(random >> 32));
    double magnitude = 1;
    switch (stratum) {
    case 0: case 1: *x = any; *y = other; return;
    case 2:
        *x = random >> 62 & 1 ? special_value(state) : any;
        *y = random >> 62 & 1 && random >> 63 ? other : special_value(state);
        return;
    case 3:
        *x = any; *y = (float)(any * exp(uniform(state, -3, 3)));
        return;
    case 4: magnitude = exp(uniform(state, -88, 88)); break;
    case 5: magnitude = 1 + uniform(state, -1, 1) * exp(uniform(state, -17, -1)); break;
    case 6:
        *x = (float)(exp(uniform(state, -12, 12)) * (random & 1 ? -1 : 1));
        *y = (float)rint(uniform(state, -20, 20));
        return;
    default: magnitude = exp(uniform(state, -20, 20)); break;
    }
    *x = (float)magnitude;
    double size = stratum == 7 ? (random & 1 ? uniform(state, -104, -86) : uniform(state, 86, 89))
                               : uniform(state, -104, 89);
    double scale = log((double)*x);
    *y = (float)(scale ? size / scale : size);
}

/* `blocks` blocks of 4096 pairs, a function of the numbers of the blocks alone. */
void sweep_binary(kernel function, int reference, int64_t first, int64_t blocks, worst *result) {
    static _Thread_local float x[BLOCK], y[BLOCK], got[BLOCK];
    binary exact = REFERENCES[reference].two;
    for (int64_t block = first; block < first + blocks; block++) {
        uint64_t state = (uint64_t)block * 0xd1342543de82ef95u + 1;
        for (int i = 0; i < BLOCK; i++) random_pair(&state, i & 7, &x[i], &y[i]);
        function(got, x, y, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            double error = ulp_error(got[i], exact(x[i], y[i]));
            if (error > result->error) { result->error = error; result->x = x[i]; result->y = y[i]; }
        }
        result->count += BLOCK;
    }
}
