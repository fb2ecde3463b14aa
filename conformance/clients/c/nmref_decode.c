/*
 * nmref_decode: reads, checks and decodes nmref files; the commands are in README.md.
 *
 *     cc -std=c11 -O2 -Wall -Wextra -Wpedantic -o nmref_decode nmref_decode.c nmref_core.c
 */
#include "nmref_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int usage(const char *why) {
    fprintf(stderr,
            "T_USAGE %s\n"
            "nmref_decode verify FILE...\n"
            "nmref_decode list FILE\n"
            "nmref_decode dump FILE NAME...\n"
            "nmref_decode unrank PATTERN CODE      prints a mask\n"
            "nmref_decode rank PATTERN MASKHEX     prints a code\n"
            "nmref_decode masks PATTERN < CODES    one a line\n"
            "nmref_decode ranks PATTERN < MASKS    one a line\n", why);
    return EXIT_USAGE;
}

static void print_warnings(const file *f, const char *separator) {
    for (size_t i = 0; i < f->weight_count; i++) {
        const weight *w = &f->weights[i];
        unsigned found = warnings_of(w);
        if (found & NONCANON) printf("%sW_NONCANON %.*s", separator, PRINT(w->name));
        if (found & NONFINITE) printf("%sW_NONFINITE %.*s", separator, PRINT(w->name));
    }
}

/* One file: OK and the warnings, one a line.  Several: one line for each, everything on stdout. */
static int verify(int count, char **paths) {
    int result = EXIT_VALID;
    for (int i = 0; i < count; i++) {
        file f;
        int code = open_file(&f, paths[i]);
        if (code == EXIT_VALID) {
            fputs("OK", stdout);
            print_warnings(&f, count == 1 ? "\n" : " ");
            putchar('\n');
        } else {
            fprintf(count == 1 ? stderr : stdout, "%s\n", f.message);
        }
        if (code > result) result = code;
        close_file(&f);
    }
    return result;
}

static int list(file *f) {
    size_t i = 0, k = 0;
    while (i < f->weight_count || k < f->tensor_count) {    /* merge; no name is in both */
        const weight *w = i < f->weight_count ? &f->weights[i] : NULL;
        const tensor *t = k < f->tensor_count ? &f->tensors[k] : NULL;
        if (w && (!t || compare(w->name, t->name) < 0)) {
            printf("weight %.*s %s %" PRId64 " %" PRId64 "\n", PRINT(w->name),
                   DTYPES[result_type(w)].name, w->rows, w->columns);
            i++;
        } else {
            if (reserved_suffix(t->name) == t->name.n) {    /* parts are not listed */
                printf("tensor %.*s %s ", PRINT(t->name), DTYPES[t->type].name);
                put_shape(NULL, f, t);
                putchar('\n');
            }
            k++;
        }
    }
    return EXIT_VALID;
}

static void dump_weight(const weight *w) {
    unsigned char out[WINDOW * 4];
    use_patterns(w);
    for (uint64_t r = 0; r < (uint64_t)w->rows; r++)
        for (uint64_t b = 0; b * WINDOW < (uint64_t)w->columns; b++)
            fwrite(out, 1, decode_window(w, r, b, out), stdout);
}

static int dump(file *f, int count, char **names) {
    for (int i = 0; i < count; i++) {
        str name = literal(names[i]);
        const weight *w = find_weight(f, name);
        const tensor *t = find_tensor(f, name);
        if (w) dump_weight(w);
        else if (t) fwrite(f->data + t->begin, 1, (size_t)(t->end - t->begin), stdout);
        else return usage("the file has no tensor of this name");
    }
    return EXIT_VALID;
}

/* Decimal text to integer.  What does not fit becomes the largest integer, which is no code. */
static bool parse128(const char *text, u128 *value) {
    u128 v = {0, 0};
    bool over = false;
    if (!*text) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        if (v.hi >> 60) over = true;
        u128 two = add128(v, v), four = add128(two, two), eight = add128(four, four);
        v = add128(add128(eight, two), (u128){0, (uint64_t)(*text - '0')});
    }
    *value = over ? (u128){UINT64_MAX, UINT64_MAX} : v;
    return true;
}

static void print128(u128 v) {
    uint32_t limb[4] = {(uint32_t)(v.hi >> 32), (uint32_t)v.hi, (uint32_t)(v.lo >> 32),
                        (uint32_t)v.lo};
    char text[40];
    size_t at = sizeof text - 1;
    text[at] = 0;
    do {
        uint64_t rest = 0;
        for (int i = 0; i < 4; i++) {
            rest = rest << 32 | limb[i];
            limb[i] = (uint32_t)(rest / 10);
            rest %= 10;
        }
        text[--at] = (char)('0' + rest);
    } while (limb[0] || limb[1] || limb[2] || limb[3]);
    puts(text + at);
}

/* Code to mask: 0x and ceil(m / 4) digits. */
static int print_mask(const pattern *t, const char *text) {
    u128 code;
    uint8_t position[MAX_SLOTS];
    char mask[MAX_DIGITS];
    if (!parse128(text, &code)) return usage("a code is not a decimal integer");
    if (!less128(code, t->size)) {
        fputs("E_CODE_RANGE the code is not smaller than C(M, N)\n", stderr);
        return EXIT_REFUSED;
    }
    unrank(t, code, position);
    format_mask(t, position, mask);
    printf("0x%s\n", mask);
    return EXIT_VALID;
}

/* Mask to code.  The mask may have the prefix 0x. */
static int print_code(const pattern *t, const char *text) {
    uint8_t position[MAX_SLOTS];
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) text += 2;
    if (!parse_mask(t, literal(text), position)) return usage("a mask is not of the pattern");
    print128(rank(t, position));
    return EXIT_VALID;
}

typedef int convert(const pattern *, const char *);

static int each_line(const pattern *t, convert *print) {
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        int code = print(t, line);
        if (code != EXIT_VALID) return code;
    }
    return ferror(stdin) ? EXIT_SYSTEM : EXIT_VALID;
}

static int run(int argc, char **argv) {
    if (argc < 3) return usage("a command and its operands are needed");
    const char *command = argv[1];
    bool dumps = strcmp(command, "dump") == 0;
    if (strcmp(command, "verify") == 0) return verify(argc - 2, argv + 2);
    if (dumps ? argc >= 4 : strcmp(command, "list") == 0 && argc == 3) {
        file f;
        int code = open_file(&f, argv[2]);
        if (code != EXIT_VALID) fprintf(stderr, "%s\n", f.message);
        else code = dumps ? dump(&f, argc - 3, argv + 3) : list(&f);
        close_file(&f);
        return code;
    }
    bool one = argc == 4, mask = strcmp(command, one ? "unrank" : "masks") == 0;
    if (argc > 4 || (!mask && strcmp(command, one ? "rank" : "ranks") != 0))
        return usage("unknown command or wrong number of operands");
    static pattern t;
    if (!parse_any_pattern(literal(argv[2]), &t)) return usage("unknown pattern");
    convert *print = mask ? print_mask : print_code;
    return one ? print(&t, argv[3]) : each_line(&t, print);
}

int main(int argc, char **argv) {
    int code = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("T_IO cannot write\n", stderr);
        return EXIT_SYSTEM;
    }
    return code;
}
