/*
 * nmref_client: the decoder as a client of the conformance suite; README.md says how to run it.
 *
 *     cc -std=c11 -O2 -Wall -Wextra -Wpedantic -o nmref_client nmref_client.c nmref_core.c
 *
 * Protocol, version 1: a JSON object a line, requests on the input, answers on the output.  The
 * operations are decode, rank, read, unrank and warnings.  A weight or a file that is refused is
 * `rejected` with its code; an input that is not as the protocol has it is `errored`.
 */
#include "nmref_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH_REQUEST = 64 };

/* What becomes of a request.  A refusal has its message in the file. */
typedef enum { ANSWERED, REFUSED, MALFORMED } outcome;

/* ---------------------------------------------------------------- output ---------------------- */

static void put_string(str s) {
    putchar('"');
    for (size_t i = 0; i < s.n; i++) {
        int c = s.s[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c >= 0x20 && c < 0x7F) putchar(c);
        else printf("\\u%04x", c);
    }
    putchar('"');
}

static void put_hex(const unsigned char *data, size_t n) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        putchar(digits[data[i] >> 4]);
        putchar(digits[data[i] & 15]);
    }
}

static void begin_output(int64_t id) {
    printf("{\"type\":\"result\",\"id\":%" PRId64 ",\"output\":", id);
}

/* W as an array (4.9). */
static void put_weight(const weight *w) {
    unsigned char out[WINDOW * 4];
    printf("{\"dtype\":\"%s\",\"shape\":[%" PRId64 ",%" PRId64 "],\"hex\":\"",
           DTYPES[result_type(w)].name, w->rows, w->columns);
    use_patterns(w);
    for (uint64_t r = 0; r < (uint64_t)w->rows; r++)
        for (uint64_t b = 0; b * WINDOW < (uint64_t)w->columns; b++)
            put_hex(out, decode_window(w, r, b, out));
    fputs("\"}", stdout);
}

static void put_tensor(const file *f, const tensor *t) {
    printf("{\"dtype\":\"%s\",\"shape\":", DTYPES[t->type].name);
    put_shape(NULL, f, t);
    fputs(",\"hex\":\"", stdout);
    put_hex(f->data + t->begin, (size_t)(t->end - t->begin));
    fputs("\"}", stdout);
}

/* ---------------------------------------------------------------- input ----------------------- */

static int digit_of(int c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Two digits a byte; room for half of the text. */
static bool read_hex(str text, unsigned char *bytes) {
    if (text.n % 2) return false;
    for (size_t i = 0; i < text.n; i += 2) {
        int high = digit_of(text.s[i]), low = digit_of(text.s[i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i / 2] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* A code; what does not fit becomes the largest integer, which is no code. */
static bool read_code(str text, u128 *code) {
    bool over = false;
    *code = (u128){0, 0};
    for (size_t i = 0; i < text.n; i++) {
        int digit = digit_of(text.s[i]);
        if (digit < 0) return false;
        if (code->hi >> 60) over = true;
        code->hi = code->hi << 4 | code->lo >> 60;
        code->lo = code->lo << 4 | (unsigned)digit;
    }
    if (over) *code = (u128){UINT64_MAX, UINT64_MAX};
    return text.n > 0;
}

/* One line without its end, or NULL at the end of the input. */
static unsigned char *read_line(size_t *n) {
    static unsigned char *line;
    static size_t room;
    *n = 0;
    if (!line) line = resize(NULL, room = 4096, 1);
    for (;;) {
        int c = getchar();
        if (c == EOF && *n == 0) {
            free(line);
            return line = NULL;
        }
        if (c == EOF || c == '\n') return line;
        if (*n == room) {
            room *= 2;
            line = resize(line, room, 1);
        }
        line[(*n)++] = (unsigned char)c;
    }
}

/* ---------------------------------------------------------------- codes (part 2) -------------- */

static outcome convert(const json *j, uint32_t input, int64_t id, bool to_masks) {
    static pattern t;
    uint32_t text = member(j, input, "pattern");
    uint32_t list = member(j, input, to_masks ? "codes" : "masks");
    uint8_t position[MAX_SLOTS];
    char mask[MAX_DIGITS];
    u128 code;
    if (!is_type(j, text, J_STRING) || !parse_any_pattern(text_of(j, text), &t)
        || !is_type(j, list, J_ARRAY))
        return MALFORMED;
    for (uint32_t i = first_of(j, list); i; i = j->nodes[i].next)
        if (!is_type(j, i, J_STRING)
            || (to_masks && !read_code(text_of(j, i), &code))
            || (!to_masks && !parse_mask(&t, text_of(j, i), position)))
            return MALFORMED;
    begin_output(id);
    printf("{\"%s\":[", to_masks ? "masks" : "codes");
    for (uint32_t i = first_of(j, list); i; i = j->nodes[i].next) {
        if (!to_masks) {
            parse_mask(&t, text_of(j, i), position);
            code = rank(&t, position);
            if (code.hi) printf("\"%" PRIx64 "%016" PRIx64 "\"", code.hi, code.lo);
            else printf("\"%" PRIx64 "\"", code.lo);
        } else if (read_code(text_of(j, i), &code) && less128(code, t.size)) {
            unrank(&t, code, position);
            format_mask(&t, position, mask);
            printf("\"%s\"", mask + strspn(mask, "0"));     /* never empty: n is at least 1 */
        } else {
            fputs("null", stdout);
        }
        if (j->nodes[i].next) putchar(',');
    }
    fputs("]}}\n", stdout);
    return ANSWERED;
}

/* ---------------------------------------------------------------- one weight (5.16, 5.10) ----- */

/* One part: its array, with its bytes from `begin` on. */
static bool read_part(const json *j, uint32_t part, tensor *t, unsigned char *data, size_t begin) {
    uint32_t type = member(j, part, "dtype"), shape = member(j, part, "shape");
    uint32_t hex = member(j, part, "hex");
    if (!is_type(j, type, J_STRING) || !is_type(j, shape, J_ARRAY) || !is_type(j, hex, J_STRING)
        || !read_hex(text_of(j, hex), data + begin))
        return false;
    size_t size = text_of(j, hex).n / 2;
    t->type = find_dtype(text_of(j, type));
    t->shape = first_of(j, shape);
    t->rank = j->nodes[shape].u.list.count;
    t->begin = (int64_t)begin;
    t->end = (int64_t)(begin + size);
    uint64_t want = DTYPES[t->type].size;
    bool empty = false;
    for (uint32_t k = t->shape; k; k = j->nodes[k].next) {
        if (!is_type(j, k, J_NUMBER) || j->nodes[k].u.number < 0) return false;
        uint64_t side = (uint64_t)j->nodes[k].u.number;
        if (side == 0) empty = true;
        else if (want > UINT64_MAX / side) want = UINT64_MAX;
        else want *= side;
    }
    return t->type == UNKNOWN || size == (empty ? 0 : want);
}

/* Spec and parts as a file of the one weight w that has no header: the request takes its place. */
static outcome read_one(const json *j, uint32_t input, file *f, unsigned char **bytes) {
    uint32_t spec = member(j, input, "spec"), parts = member(j, input, "parts");
    if (!is_type(j, spec, J_OBJECT) || !is_type(j, parts, J_OBJECT)) return MALFORMED;
    size_t room = 0, used = 0, count = j->nodes[parts].u.list.count;
    for (uint32_t i = first_of(j, parts); i; i = j->nodes[i].next) room += name_of(j, i).n + 2;
    size_t names = room;
    room += j->n / 2;                         /* two digits a byte, all of them in the request */
    *bytes = resize(NULL, room, 1);
    f->data = *bytes + names;
    f->header = *j;
    f->tensors = resize(NULL, count, sizeof *f->tensors);
    size_t at = 0;
    for (uint32_t i = first_of(j, parts); i; i = j->nodes[i].next) {
        tensor *t = &f->tensors[f->tensor_count++];
        str suffix = name_of(j, i);
        t->name = (str){*bytes + at, suffix.n + 2};
        memcpy(*bytes + at, "w.", 2);
        memcpy(*bytes + at + 2, suffix.s, suffix.n);
        at += suffix.n + 2;
        if (!is_type(j, i, J_OBJECT) || !read_part(j, i, t, *bytes + names, used)) return MALFORMED;
        used = (size_t)t->end;
    }
    qsort(f->tensors, f->tensor_count, sizeof *f->tensors, by_name);
    f->weights = resize(NULL, 1, sizeof *f->weights);
    if (!read_weight(j, spec, f->weights)) {
        strcpy(f->message, "E_META spec");
        return REFUSED;
    }
    f->weights->name = literal("w");
    f->weight_count = 1;
    return check_container(f) && check_weight(f, f->weights) ? ANSWERED : REFUSED;
}

static outcome answer_weight(const json *j, uint32_t input, int64_t id, file *f, bool warn) {
    unsigned char *bytes = NULL;
    outcome done = read_one(j, input, f, &bytes);
    if (done == ANSWERED) {
        begin_output(id);
        if (warn) {
            unsigned found = warnings_of(f->weights);
            printf("{\"warnings\":[%s%s%s]}", found & NONCANON ? "\"W_NONCANON\"" : "",
                   found == (NONCANON | NONFINITE) ? "," : "",
                   found & NONFINITE ? "\"W_NONFINITE\"" : "");
        } else {
            fputs("{\"W\":", stdout);
            put_weight(f->weights);
            putchar('}');
        }
        fputs("}\n", stdout);
    }
    f->header = (json){0};                    /* the request still owns it */
    free(bytes);
    return done;
}

/* ---------------------------------------------------------------- files ----------------------- */

static outcome answer_file(const json *j, uint32_t input, int64_t id, file *f) {
    uint32_t hex = member(j, input, "file");
    bool first = true;
    if (!is_type(j, hex, J_STRING)) return MALFORMED;
    f->size = text_of(j, hex).n / 2;
    f->bytes = resize(NULL, f->size, 1);
    if (!read_hex(text_of(j, hex), f->bytes)) return MALFORMED;
    if (!check_file(f)) return REFUSED;
    begin_output(id);
    fputs("{\"tensors\":{", stdout);
    for (size_t i = 0; i < f->weight_count; i++, first = false) {
        if (!first) putchar(',');
        put_string(f->weights[i].name);
        putchar(':');
        put_weight(&f->weights[i]);
    }
    for (size_t i = 0; i < f->tensor_count; i++) {
        const tensor *t = &f->tensors[i];
        if (reserved_suffix(t->name) != t->name.n) continue;            /* a part */
        if (!first) putchar(',');
        first = false;
        put_string(t->name);
        putchar(':');
        put_tensor(f, t);
    }
    fputs("}}}\n", stdout);
    return ANSWERED;
}

/* ---------------------------------------------------------------- requests -------------------- */

static void refused(int64_t id, const char *message) {
    size_t n = strcspn(message, " ");
    printf("{\"type\":\"result\",\"id\":%" PRId64 ",\"rejected\":{\"code\":", id);
    put_string((str){(const unsigned char *)message, n});
    fputs(",\"message\":", stdout);
    put_string(literal(message));
    fputs("}}\n", stdout);
}

static void run_case(const json *j, uint32_t request, int64_t id) {
    static file f;
    uint32_t op = member(j, request, "op"), input = member(j, request, "input");
    outcome done = MALFORMED;
    memset(&f, 0, sizeof f);
    str name = is_type(j, op, J_STRING) ? text_of(j, op) : literal("");
    if (!is_type(j, input, J_OBJECT)) {
        done = MALFORMED;
    } else if (equal(name, "unrank") || equal(name, "rank")) {
        done = convert(j, input, id, equal(name, "unrank"));
    } else if (equal(name, "decode") || equal(name, "warnings")) {
        done = answer_weight(j, input, id, &f, equal(name, "warnings"));
    } else if (equal(name, "read")) {
        done = answer_file(j, input, id, &f);
    } else {
        printf("{\"type\":\"result\",\"id\":%" PRId64 ",\"skipped\":\"unknown operation\"}\n", id);
        done = ANSWERED;
    }
    if (done == REFUSED) refused(id, f.message);
    if (done == MALFORMED)
        printf("{\"type\":\"result\",\"id\":%" PRId64 ",\"errored\":\"malformed input\"}\n", id);
    close_file(&f);
}

/* One line.  False if it is not understood; *stop is set by the last one. */
static bool serve(unsigned char *line, size_t n, bool *stop) {
    json j = {.text = line, .n = n, .max_depth = MAX_DEPTH_REQUEST, .minus = true};
    uint32_t request = n <= UINT32_MAX ? parse_json(&j) : 0;
    uint32_t type = request ? member(&j, request, "type") : 0;
    uint32_t id = request ? member(&j, request, "id") : 0;
    str name = is_type(&j, type, J_STRING) ? text_of(&j, type) : literal("");
    bool known = true;
    *stop = equal(name, "stop");
    if (equal(name, "start"))
        puts("{\"type\":\"start\",\"protocol\":1,\"name\":\"nmref_client\",\"version\":\"1.0\","
             "\"ops\":[\"decode\",\"rank\",\"read\",\"unrank\",\"warnings\"]}");
    else if (equal(name, "run") && is_type(&j, id, J_NUMBER))
        run_case(&j, request, j.nodes[id].u.number);
    else
        known = *stop;
    free(j.nodes);
    return known;
}

int main(void) {
    bool stop = false;
    while (!stop) {
        size_t n;
        unsigned char *line = read_line(&n);
        if (!line) break;
        if (!serve(line, n, &stop)) {
            fputs("T_PROTOCOL a line that is no request\n", stderr);
            return EXIT_USAGE;
        }
        if (fflush(stdout) != 0) {
            fputs("T_IO cannot write\n", stderr);
            return EXIT_SYSTEM;
        }
    }
    return ferror(stdin) ? EXIT_SYSTEM : EXIT_VALID;
}
