/*
 * The decoder that both programs share; nmref_core.h says what it is.
 *
 * Sections: text, 128-bit integers, SHA-256, JSON, patterns, elements, file, header, metadata,
 * weights, digest, warnings, decoding.
 */
#include "nmref_core.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_HEADER = 100000000,                   /* (5.2) */
    MAX_DEPTH_HEADER = 4,                     /* (5.3) */
    MAX_DEPTH_META = 8                        /* (5.13) */
};
#define MAX_SIDE INT64_C(0x7fffffff)          /* (5.24) */

/* ---------------------------------------------------------------- text ------------------------ */

str literal(const char *s) {
    return (str){(const unsigned char *)s, strlen(s)};
}

int compare(str a, str b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.s, b.s, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

int by_name(const void *a, const void *b) {
    return compare(*(const str *)a, *(const str *)b);
}

bool equal(str a, const char *b) {
    return compare(a, literal(b)) == 0;
}

void *resize(void *old, size_t count, size_t size) {
    void *p = NULL;
    if (count == 0) count = 1;
    if (count <= SIZE_MAX / size) p = realloc(old, count * size);
    if (!p) {
        fputs("T_MEMORY out of memory\n", stderr);
        exit(EXIT_SYSTEM);
    }
    return p;
}

/* ---------------------------------------------------------------- 128-bit integers ------------ */

u128 add128(u128 a, u128 b) {
    u128 c = {a.hi + b.hi, a.lo + b.lo};
    c.hi += c.lo < a.lo;
    return c;
}

static u128 sub128(u128 a, u128 b) {
    return (u128){a.hi - b.hi - (a.lo < b.lo), a.lo - b.lo};
}

bool less128(u128 a, u128 b) {
    return a.hi != b.hi ? a.hi < b.hi : a.lo < b.lo;
}

static unsigned bits128(u128 a) {
    unsigned n = a.hi ? 64 : 0;
    for (uint64_t v = a.hi ? a.hi : a.lo; v; v >>= 1) n++;
    return n;
}

/* ---------------------------------------------------------------- SHA-256 (FIPS 180-4) -------- */

static const uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

static void sha_block(sha256 *s, const unsigned char *p) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3)
             + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, s->h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t a = v[0], e = v[4];
        uint32_t t = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25))
                   + ((e & v[5]) ^ (~e & v[6])) + SHA_K[i] + w[i];
        uint32_t u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22))
                   + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t;
        v[0] = t + u;
    }
    for (int i = 0; i < 8; i++) s->h[i] += v[i];
}

static void sha_start(sha256 *s) {
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, first, sizeof first);
    s->length = 0;
}

static void sha_add(sha256 *s, const void *data, size_t n) {
    const unsigned char *p = data;
    size_t have = (size_t)(s->length % 64);
    s->length += n;
    while (n) {
        if (!have && n >= 64) {
            sha_block(s, p);
            p += 64;
            n -= 64;
            continue;
        }
        size_t take = 64 - have < n ? 64 - have : n;
        memcpy(s->block + have, p, take);
        p += take;
        n -= take;
        have += take;
        if (have == 64) {
            sha_block(s, s->block);
            have = 0;
        }
    }
}

static void sha_end(sha256 *s, char hex[65]) {
    unsigned char tail[72] = {0x80};
    uint64_t bits = s->length * 8;
    size_t pad = 64 - (size_t)((s->length + 8) % 64);      /* 1 ... 64 bytes, then the length */
    for (size_t i = 0; i < 8; i++) tail[pad + i] = (unsigned char)(bits >> (56 - 8 * i));
    sha_add(s, tail, pad + 8);
    for (size_t i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08" PRIx32, s->h[i]);
}

/* ---------------------------------------------------------------- JSON (5.3, 5.13) ------------ */

static uint32_t new_node(json *j, uint32_t type) {
    if (j->count == j->room) {
        j->room = j->room ? 2 * j->room : 64;
        j->nodes = resize(j->nodes, j->room, sizeof *j->nodes);
    }
    if (!j->count) j->count = 1;              /* index 0 is taken */
    j->nodes[j->count] = (node){.type = type};
    return (uint32_t)j->count++;
}

str name_of(const json *j, uint32_t i) {
    return (str){j->text + j->nodes[i].name, j->nodes[i].name_n};
}

str text_of(const json *j, uint32_t i) {
    return (str){j->text + j->nodes[i].u.text.at, j->nodes[i].u.text.n};
}

static int peek(const json *j) {
    return j->at < j->n ? j->text[j->at] : -1;
}

static void skip_space(json *j) {
    for (int c = peek(j); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(j)) {
        j->at++;
        j->canonical = false;
    }
}

/* Four hexadecimal digits, or -1. */
static long parse_hex4(json *j) {
    long v = 0;
    for (int i = 0; i < 4; i++, j->at++) {
        int c = peek(j);
        if (c >= '0' && c <= '9') v = v * 16 + c - '0';
        else if (c >= 'a' && c <= 'f') v = v * 16 + c - 'a' + 10;
        else if (c >= 'A' && c <= 'F') v = v * 16 + c - 'A' + 10;
        else return -1;
    }
    return v;
}

/* What follows a backslash: a Unicode scalar value, or -1. */
static long parse_escape(json *j) {
    static const char letters[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    int c = peek(j);
    j->at++;
    if (c != '"' && c != '\\') j->canonical = false;
    if (c != 'u') {
        const char *hit = c > 0 ? strchr(letters, c) : NULL;
        return hit ? meaning[hit - letters] : -1;
    }
    long v = parse_hex4(j);
    if (v < 0xD800 || v > 0xDFFF) return v;
    if (v > 0xDBFF || peek(j) != '\\') return -1;           /* lone surrogate */
    j->at++;
    if (peek(j) != 'u') return -1;
    j->at++;
    long low = parse_hex4(j);
    if (low < 0xDC00 || low > 0xDFFF) return -1;
    return 0x10000 + (v - 0xD800) * 0x400 + (low - 0xDC00);
}

/* Length of the well-formed UTF-8 sequence of several bytes at p (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *p, size_t n) {
    size_t length = p[0] >= 0xC2 && p[0] <= 0xDF ? 2 : (p[0] & 0xF0) == 0xE0 ? 3
                  : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4 : 0;
    if (!length || length > n) return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0;              /* overlong */
    if (p[0] == 0xED && p[1] > 0x9F) return 0;              /* surrogate */
    if (p[0] == 0xF0 && p[1] < 0x90) return 0;              /* overlong */
    if (p[0] == 0xF4 && p[1] > 0x8F) return 0;              /* above 0x10FFFF */
    return length;
}

static size_t utf8_write(unsigned char *p, long v) {
    if (v < 0x80) {
        p[0] = (unsigned char)v;
        return 1;
    }
    size_t n = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, v >>= 6) p[i] = (unsigned char)(0x80 | (v & 0x3F));
    p[0] = (unsigned char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | v);
    return n;
}

/* A string, decoded in place: the result is never longer than its source. */
static bool parse_string(json *j, uint32_t *at, uint32_t *n) {
    if (peek(j) != '"') return false;
    size_t to = ++j->at;
    *at = (uint32_t)to;
    for (;;) {
        int c = peek(j);
        if (c < 0x20) return false;                         /* control character or the end */
        if (c == '"') break;
        if (c == '\\') {
            j->at++;
            long v = parse_escape(j);
            if (v < 0) return false;
            to += utf8_write(j->text + to, v);
        } else if (c < 0x80) {
            j->text[to++] = (unsigned char)c;
            j->at++;
        } else {
            size_t length = utf8_length(j->text + j->at, j->n - j->at);
            if (!length) return false;
            memmove(j->text + to, j->text + j->at, length);
            to += length;
            j->at += length;
            j->canonical = false;
        }
    }
    j->at++;
    *n = (uint32_t)(to - *at);
    return true;
}

/* A plain decimal integer of magnitude at most 2^63 - 1. */
static uint32_t parse_number(json *j) {
    bool negative = peek(j) == '-';
    int64_t v = 0;
    if (negative && !j->minus) return 0;
    j->at += negative;
    size_t start = j->at;
    for (int c = peek(j); c >= '0' && c <= '9'; c = peek(j)) {
        if (j->at > start && v == 0) return 0;              /* leading zero */
        if (v > (INT64_MAX - (c - '0')) / 10) return 0;
        v = v * 10 + (c - '0');
        j->at++;
    }
    if (j->at == start) return 0;
    if (negative && v == 0) j->canonical = false;           /* -0 */
    uint32_t i = new_node(j, J_NUMBER);
    j->nodes[i].u.number = negative ? -v : v;
    return i;
}

static bool has_duplicates(const json *j, uint32_t object) {
    size_t n = 0;
    bool found = false;
    str *names = resize(NULL, j->nodes[object].u.list.count, sizeof *names);
    for (uint32_t i = j->nodes[object].u.list.first; i; i = j->nodes[i].next)
        names[n++] = name_of(j, i);
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n && !found; i++) found = compare(names[i - 1], names[i]) == 0;
    free(names);
    return found;
}

static uint32_t parse_value(json *j, unsigned depth);

/* An object or an array, which is at the given depth. */
static uint32_t parse_list(json *j, unsigned depth) {
    bool object = peek(j) == '{', ascending = true;
    int close = object ? '}' : ']';
    uint32_t last = 0, self;
    if (depth > j->max_depth) return 0;
    self = new_node(j, object ? J_OBJECT : J_ARRAY);
    j->at++;
    skip_space(j);
    if (peek(j) == close) {
        j->at++;
        return self;
    }
    for (;;) {
        uint32_t name = 0, name_n = 0;
        if (object) {
            if (!parse_string(j, &name, &name_n)) return 0;
            skip_space(j);
            if (peek(j) != ':') return 0;
            j->at++;
            skip_space(j);
        }
        uint32_t i = parse_value(j, depth + 1);
        if (!i) return 0;
        j->nodes[i].name = name;
        j->nodes[i].name_n = name_n;
        if (last) j->nodes[last].next = i;
        else j->nodes[self].u.list.first = i;
        if (last && object && compare(name_of(j, last), name_of(j, i)) >= 0) ascending = false;
        j->nodes[self].u.list.count++;
        last = i;
        skip_space(j);
        int c = peek(j);
        j->at++;
        if (c == close) break;
        if (c != ',') return 0;
        skip_space(j);
    }
    if (ascending) return self;
    j->canonical = false;
    return has_duplicates(j, self) ? 0 : self;
}

/* Any value; 0 if there is none that the rules allow.  The recursion ends at max_depth + 1. */
static uint32_t parse_value(json *j, unsigned depth) {
    static const struct {
        const char *text;
        uint32_t type;
    } words[] = {{"null", J_NULL}, {"true", J_LITERAL}, {"false", J_LITERAL}};
    int c = peek(j);
    if (c == '{' || c == '[') return parse_list(j, depth);
    if (c == '-' || (c >= '0' && c <= '9')) return parse_number(j);
    if (c == '"') {
        uint32_t at, n;
        if (!parse_string(j, &at, &n)) return 0;
        uint32_t i = new_node(j, J_STRING);
        j->nodes[i].u.text.at = at;
        j->nodes[i].u.text.n = n;
        return i;
    }
    for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
        size_t n = strlen(words[k].text);
        if (j->n - j->at >= n && memcmp(j->text + j->at, words[k].text, n) == 0) {
            j->at += n;
            return new_node(j, words[k].type);
        }
    }
    return 0;
}

uint32_t parse_json(json *j) {
    if (peek(j) != '{') return 0;
    uint32_t root = parse_value(j, 1);
    if (!root) return 0;
    for (; j->at < j->n; j->at++) {
        if (j->text[j->at] != ' ') return 0;
        j->canonical = false;
    }
    return root;
}

uint32_t first_of(const json *j, uint32_t list) {
    return j->nodes[list].u.list.first;
}

uint32_t member(const json *j, uint32_t object, const char *name) {
    uint32_t i = first_of(j, object);
    while (i && !equal(name_of(j, i), name)) i = j->nodes[i].next;
    return i;
}

bool is_type(const json *j, uint32_t i, uint32_t type) {
    return i && j->nodes[i].type == type;
}

/* ---------------------------------------------------------------- patterns (part 2) ----------- */

static u128 binomial(const pattern *t, unsigned p, unsigned j) {
    return t->c[p * (t->n + 1) + j];
}

void make_pattern(pattern *t, unsigned n, unsigned m) {
    if (t->n == n && t->m == m) return;       /* it is this pattern already */
    t->n = n;
    t->m = m;
    for (unsigned p = 0; p <= m; p++)
        for (unsigned j = 0; j <= n; j++) {
            u128 v = {0, j == 0};
            if (p && j) v = add128(binomial(t, p - 1, j - 1), binomial(t, p - 1, j));
            t->c[p * (n + 1) + j] = v;
        }
    t->size = binomial(t, m, n);
    t->w = bits128(sub128(t->size, (u128){0, 1}));
}

/* The text of a base pattern (2.1). */
static bool parse_pattern(str text, unsigned *n, unsigned *m) {
    unsigned v[2] = {0, 0};
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        size_t start = at;
        for (; at < text.n && text.s[at] >= '0' && text.s[at] <= '9'; at++) {
            if (at - start == 2 || (at > start && v[i] == 0)) return false;
            v[i] = v[i] * 10 + (text.s[at] - '0');
        }
        if (at == start) return false;
        if (i == 0 && (at == text.n || text.s[at++] != ':')) return false;
    }
    *n = v[0];
    *m = v[1];
    return at == text.n && *n >= 1 && *n < *m && *m <= 64;
}

/* The text of an outlier pattern (4.1). */
static bool parse_outlier_pattern(str text, unsigned *n, unsigned *m) {
    *m = 256;
    *n = equal(text, "4:256") ? 4 : equal(text, "8:256") ? 8 : equal(text, "16:256") ? 16 : 0;
    return *n != 0;
}

bool parse_any_pattern(str text, pattern *t) {
    unsigned n, m;
    if (!parse_pattern(text, &n, &m) && !parse_outlier_pattern(text, &n, &m)) return false;
    make_pattern(t, n, m);
    return true;
}

void unrank(const pattern *t, u128 code, uint8_t *position) {
    unsigned p = t->m;
    for (unsigned j = t->n; j > 0; j--) {
        p--;
        while (less128(code, binomial(t, p, j))) p--;       /* ends: C(p, j) = 0 for p < j */
        position[j - 1] = (uint8_t)p;
        code = sub128(code, binomial(t, p, j));
    }
}

u128 rank(const pattern *t, const uint8_t *position) {
    u128 code = {0, 0};
    for (unsigned j = 1; j <= t->n; j++) code = add128(code, binomial(t, position[j - 1], j));
    return code;
}

bool parse_mask(const pattern *t, str text, uint8_t *position) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    unsigned n = 0;
    for (size_t i = 0; i < text.n; i++) {
        int c = text.s[text.n - 1 - i];
        const char *hit = c ? strchr(digits, c) : NULL;
        if (!hit) return false;
        for (unsigned k = 0; k < 4; k++) {
            if (!((unsigned)(hit - digits) % 16 >> k & 1)) continue;
            if (n == t->n || 4 * i + k >= t->m) return false;
            position[n++] = (uint8_t)(4 * i + k);
        }
    }
    return n == t->n;
}

void format_mask(const pattern *t, const uint8_t *position, char text[MAX_DIGITS]) {
    unsigned digit[64] = {0}, count = (t->m + 3) / 4;
    for (unsigned j = 0; j < t->n; j++) digit[position[j] / 4] |= 1u << position[j] % 4;
    for (unsigned i = 0; i < count; i++) text[i] = "0123456789abcdef"[digit[count - 1 - i]];
    text[count] = 0;
}

/* w stream bits from stream bit `bit` on (2.9), up to a byte at a time. */
static u128 fetch(const unsigned char *row, uint64_t bit, unsigned w) {
    u128 code = {0, 0};
    for (unsigned k = 0; k < w;) {
        unsigned from = (unsigned)((bit + k) % 8), take = 8 - from;
        if (take > w - k) take = w - k;
        uint64_t v = (uint32_t)row[(bit + k) / 8] >> from & ((1u << take) - 1);
        if (k < 64) code.lo |= v << k;
        if (k >= 64) code.hi |= v << (k - 64);
        else if (k > 56) code.hi |= v >> (64 - k);
        k += take;
    }
    return code;
}

/* ---------------------------------------------------------------- elements (3.1, 4.11, 5.8) --- */

const dtype_info DTYPES[] = {
    {"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I16", 2},
    {"U16", 2}, {"F16", 2}, {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4}, {"I64", 8},
    {"U64", 8}, {"F64", 8}, {"C64", 8}, {"unknown", 0}};

dtype find_dtype(str name) {
    unsigned i = 0;
    while (i < UNKNOWN && !equal(name, DTYPES[i].name)) i++;
    return (dtype)i;
}

/* The bits of element i of an array; elements have at most 4 bytes. */
static uint32_t element(const unsigned char *data, dtype d, uint64_t i) {
    unsigned size = DTYPES[d].size;
    const unsigned char *p = data + i * size;
    uint32_t bits = 0;
    for (unsigned k = 0; k < size; k++) bits |= (uint32_t)p[k] << (8 * k);
    return bits;
}

static bool is_finite(dtype d, uint32_t bits) {
    uint32_t exponent = d == F32 ? 0x7F800000 : d == BF16 ? 0x7F80 : 0x7C00;
    return d == I8 || (bits & exponent) != exponent;
}

/* RN32(q * s) for an I8 element and the bits of a scale within (3.6), in integers. */
static uint32_t scale_i8(uint32_t q, uint32_t s) {
    uint32_t sign = q & 0x80 ? 0x80000000 : 0, magnitude = q & 0x80 ? 256 - q : q;
    uint32_t exponent = s >> 23, p = s & 0x7FFFFF;
    if (!magnitude) return 0;                               /* +0 */
    if (exponent) p |= 0x800000;
    else exponent = 1;
    p *= magnitude;                           /* |q| s = p * 2^(exponent - 150), p <= 2^31 - 2^7 */
    unsigned drop = 0;
    while (p >> drop > 0xFFFFFF) drop++;
    if (drop) {                               /* round to 24 bits, ties to even */
        uint32_t rest = p & ((1u << drop) - 1), half = 1u << (drop - 1);
        p >>= drop;
        if (rest > half || (rest == half && (p & 1))) p++;
        exponent += drop;
        if (p > 0xFFFFFF) {
            p >>= 1;
            exponent++;
        }
    }
    while (p < 0x800000 && exponent > 1) {    /* exact: no bit was dropped above */
        p <<= 1;
        exponent--;
    }
    if (p < 0x800000) return sign | p;                      /* subnormal */
    return sign | exponent << 23 | (p & 0x7FFFFF);          /* exponent <= 254 by (3.6) */
}

/* An F16 or BF16 element as F32, exactly, payloads of NaN kept (4.11). */
static uint32_t widen_float(dtype d, uint32_t x) {
    if (d == BF16) return x << 16;
    uint32_t sign = (x & 0x8000) << 16, exponent = x >> 10 & 31, fraction = x & 0x3FF;
    if (exponent == 31) return sign | 0x7F800000 | fraction << 13;
    if (exponent) return sign | (exponent + 112) << 23 | fraction << 13;
    if (!fraction) return sign;
    for (exponent = 113; fraction < 0x400; exponent--) fraction <<= 1;
    return sign | exponent << 23 | (fraction & 0x3FF) << 13;
}

/* ---------------------------------------------------------------- the file -------------------- */

static pattern base_pattern, outlier_pattern; /* tables of the weight at hand */

static bool refuse(file *f, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(f->message, sizeof f->message, format, arguments);
    va_end(arguments);
    return false;
}

void close_file(file *f) {
    free(f->bytes);
    free(f->header.nodes);
    free(f->meta.nodes);
    free(f->meta.text);
    free(f->tensors);
    free(f->weights);
    memset(f, 0, sizeof *f);
}

/* Reads all bytes of a file; memory grows with the bytes that are there. */
static bool read_file(file *f, const char *path) {
    FILE *in = fopen(path, "rb");
    size_t room = 0;
    if (!in) return false;
    do {
        if (f->size == room) {
            room = room ? 2 * room : 4096;
            f->bytes = resize(f->bytes, room, 1);
        }
        f->size += fread(f->bytes + f->size, 1, room - f->size, in);
    } while (f->size == room);
    bool bad = ferror(in) != 0;
    int error = errno;
    fclose(in);
    errno = error;
    return !bad;
}

/* ---------------------------------------------------------------- header (6.2) ---------------- */

/* Every character is in 0x21 ... 0x7E and neither a quotation mark nor a backslash. */
static bool plain(str s) {
    size_t i = 0;
    while (i < s.n && s.s[i] > 0x20 && s.s[i] < 0x7F && s.s[i] != '"' && s.s[i] != '\\') i++;
    return i == s.n;
}

static bool good_name(str name) {               /* (5.5) */
    return name.n >= 1 && name.n <= MAX_NAME && plain(name);
}

size_t reserved_suffix(str name) {
    size_t dot = name.n;
    while (dot > 0 && name.s[dot - 1] != '.') dot--;
    if (!dot || name.n - dot < 3 || memcmp(name.s + dot, "nm_", 3) != 0) return name.n;
    return dot - 1;
}

/* Members of one tensor (5.4) and its size (5.6). */
static bool read_tensor(file *f, uint32_t i, tensor *t) {
    const json *j = &f->header;
    t->name = name_of(j, i);
    if (!good_name(t->name)) return refuse(f, "E_HEADER name of a tensor");
    if (!is_type(j, i, J_OBJECT) || j->nodes[i].u.list.count != 3)
        return refuse(f, "E_HEADER %.*s is not an object of three members", PRINT(t->name));
    uint32_t type = member(j, i, "dtype"), shape = member(j, i, "shape");
    uint32_t offsets = member(j, i, "data_offsets");
    if (!is_type(j, type, J_STRING) || !is_type(j, shape, J_ARRAY) || !is_type(j, offsets, J_ARRAY))
        return refuse(f, "E_HEADER %.*s members", PRINT(t->name));
    for (uint32_t k = first_of(j, shape); k; k = j->nodes[k].next)
        if (!is_type(j, k, J_NUMBER)) return refuse(f, "E_HEADER %.*s shape", PRINT(t->name));
    uint32_t begin = first_of(j, offsets), end = begin ? j->nodes[begin].next : 0;
    if (j->nodes[offsets].u.list.count != 2 || !is_type(j, begin, J_NUMBER)
        || !is_type(j, end, J_NUMBER) || j->nodes[begin].u.number > j->nodes[end].u.number)
        return refuse(f, "E_HEADER %.*s data_offsets", PRINT(t->name));
    t->type = find_dtype(text_of(j, type));
    t->shape = first_of(j, shape);
    t->rank = j->nodes[shape].u.list.count;
    t->begin = j->nodes[begin].u.number;
    t->end = j->nodes[end].u.number;
    if (t->type == UNKNOWN) return true;                    /* refused later; 5.6 is skipped */
    int64_t size = 1;
    for (uint32_t k = t->shape;; k = j->nodes[k].next) {
        int64_t factor = k ? j->nodes[k].u.number : DTYPES[t->type].size;
        if (factor && size > INT64_MAX / factor)
            return refuse(f, "E_HEADER %.*s size overflows", PRINT(t->name));
        size *= factor;
        if (!k) break;
    }
    if (size != t->end - t->begin)
        return refuse(f, "E_HEADER %.*s has %" PRId64 " bytes, its shape asks for %" PRId64,
                      PRINT(t->name), t->end - t->begin, size);
    return true;
}

static int by_place(const void *a, const void *b) {
    const tensor *s = a, *t = b;
    if (s->begin != t->begin) return s->begin < t->begin ? -1 : 1;
    return (s->end > t->end) - (s->end < t->end);           /* empty ones before the others */
}

/* The tensors tile the data section (5.7).  Sorts them by place. */
static bool check_tiling(file *f) {
    int64_t at = 0;
    qsort(f->tensors, f->tensor_count, sizeof *f->tensors, by_place);
    /* In this order an empty tensor comes after the tensor that ends where it begins. */
    for (size_t i = 0; i < f->tensor_count; i++) {
        const tensor *t = &f->tensors[i];
        if (t->begin != at) return refuse(f, "E_HEADER %.*s: hole or overlap", PRINT(t->name));
        at = t->end;
    }
    if ((uint64_t)at != f->data_size)
        return refuse(f, "E_HEADER the tensors have %" PRId64 " bytes, the data section %zu", at,
                      f->data_size);
    return true;
}

static bool read_header(file *f) {
    uint64_t h = 0;
    if (f->size < 8) return refuse(f, "E_HEADER the file has %zu bytes", f->size);
    for (unsigned k = 0; k < 8; k++) h |= (uint64_t)f->bytes[k] << (8 * k);
    if (h > MAX_HEADER) return refuse(f, "E_LIMIT H = %" PRIu64, h);
    if (h > f->size - 8) return refuse(f, "E_HEADER the file ends inside the header");
    f->data = f->bytes + 8 + h;
    f->data_size = f->size - 8 - (size_t)h;

    json *j = &f->header;
    *j = (json){.text = f->bytes + 8, .n = (size_t)h, .max_depth = MAX_DEPTH_HEADER};
    uint32_t root = parse_json(j);
    if (!root) return refuse(f, "E_HEADER JSON, near byte %zu of the header", j->at);
    f->tensors = resize(NULL, j->nodes[root].u.list.count, sizeof *f->tensors);
    for (uint32_t i = first_of(j, root); i; i = j->nodes[i].next) {
        if (equal(name_of(j, i), "__metadata__")) {
            if (!is_type(j, i, J_OBJECT)) return refuse(f, "E_HEADER __metadata__ is no object");
            for (uint32_t k = first_of(j, i); k; k = j->nodes[k].next)
                if (!is_type(j, k, J_STRING))
                    return refuse(f, "E_HEADER a value of __metadata__ is no string");
        } else if (!read_tensor(f, i, &f->tensors[f->tensor_count++])) {
            return false;
        }
    }
    if (!check_tiling(f)) return false;
    qsort(f->tensors, f->tensor_count, sizeof *f->tensors, by_name);
    for (size_t i = 0; i < f->tensor_count; i++)
        if (f->tensors[i].type == UNKNOWN)
            return refuse(f, "E_DTYPE %.*s has an unknown dtype", PRINT(f->tensors[i].name));
    return true;
}

/* ---------------------------------------------------------------- metadata (6.3) -------------- */

/* MAJOR.MINOR as a whole (5.14). */
static bool good_spec(str s) {
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        size_t start = at;
        while (at < s.n && s.s[at] >= '0' && s.s[at] <= '9') at++;
        if (at == start || (s.s[start] == '0' && at > start + 1)) return false;
        if (i == 0 && (at == s.n || s.s[at++] != '.')) return false;
    }
    return at == s.n;
}

/* A further member (5.17). */
static bool good_extension(const json *j, uint32_t i) {
    str name = name_of(j, i);
    if (name.n < 3 || memcmp(name.s, "x-", 2) != 0 || !plain(name)) return false;
    if (!is_type(j, i, J_STRING)) return false;
    str text = text_of(j, i);
    size_t k = 0;
    while (k < text.n && text.s[k] >= 0x20 && text.s[k] <= 0x7E) k++;
    return k == text.n;
}

/* Finds the `count` members that an object must have; all others must be extensions (5.16). */
static bool read_members(const json *j, uint32_t object, const char *const *names, uint32_t *found,
                         size_t count) {
    if (!is_type(j, object, J_OBJECT)) return false;
    for (size_t k = 0; k < count; k++) found[k] = 0;
    for (uint32_t i = first_of(j, object); i; i = j->nodes[i].next) {
        size_t k = 0;
        while (k < count && !equal(name_of(j, i), names[k])) k++;
        if (k < count) found[k] = i;
        else if (!good_extension(j, i)) return false;
    }
    for (size_t k = 0; k < count; k++)
        if (!found[k]) return false;
    return true;
}

static bool string_is(const json *j, uint32_t i, const char *text) {
    return is_type(j, i, J_STRING) && equal(text_of(j, i), text);
}

static bool read_float_dtype(const json *j, uint32_t i, dtype *d) {
    if (!is_type(j, i, J_STRING)) return false;
    *d = find_dtype(text_of(j, i));
    return *d == F32 || *d == F16 || *d == BF16;
}

static bool read_outliers(const json *j, uint32_t object, matrix *o) {
    static const char *const names[] = {"coding", "dtype", "pattern"};
    uint32_t got[3];
    if (!read_members(j, object, names, got, 3)) return false;
    o->index = string_is(j, got[0], "idx8");
    if (!o->index && !string_is(j, got[0], "colex")) return false;
    if (!read_float_dtype(j, got[1], &o->type)) return false;
    return is_type(j, got[2], J_STRING)
        && parse_outlier_pattern(text_of(j, got[2]), &o->n, &o->m);
}

bool read_weight(const json *j, uint32_t object, weight *w) {
    static const char *const names[] = {"coding", "dtype", "outliers", "pattern", "shape"};
    uint32_t got[5];
    memset(w, 0, sizeof *w);
    w->name = name_of(j, object);
    if (!good_name(w->name) || reserved_suffix(w->name) != w->name.n
        || equal(w->name, "__metadata__"))
        return false;
    if (!read_members(j, object, names, got, 5) || !string_is(j, got[0], "colex")) return false;
    if (!read_float_dtype(j, got[1], &w->base.type)) {
        if (!string_is(j, got[1], "I8")) return false;
        w->base.type = I8;
    }
    w->has_outliers = !is_type(j, got[2], J_NULL);
    if (w->has_outliers && !read_outliers(j, got[2], &w->outliers)) return false;
    if (!is_type(j, got[3], J_STRING)
        || !parse_pattern(text_of(j, got[3]), &w->base.n, &w->base.m))
        return false;
    if (!is_type(j, got[4], J_ARRAY) || j->nodes[got[4]].u.list.count != 2) return false;
    uint32_t r = first_of(j, got[4]), k = j->nodes[r].next;
    if (!is_type(j, r, J_NUMBER) || !is_type(j, k, J_NUMBER)) return false;
    w->rows = j->nodes[r].u.number;
    w->columns = j->nodes[k].u.number;
    return true;
}

static bool read_meta(file *f) {
    static const char *const names[] = {"content_sha256", "spec", "tensors"};
    uint32_t got[3];
    /* 5.12: the key.  The root of the header is always node 1. */
    uint32_t metadata = member(&f->header, 1, "__metadata__");
    if (!metadata || f->header.nodes[metadata].u.list.count != 1)
        return refuse(f, "E_META __metadata__ must have the member nmref and no other");
    uint32_t key = first_of(&f->header, metadata);
    if (!equal(name_of(&f->header, key), "nmref"))
        return refuse(f, "E_META __metadata__ has another member than nmref");
    f->s = text_of(&f->header, key);

    /* 5.13: parsing changes the text, so it gets a copy; S itself is needed for the digest. */
    json *j = &f->meta;
    *j = (json){.text = resize(NULL, f->s.n, 1), .n = f->s.n, .max_depth = MAX_DEPTH_META,
                .minus = true, .canonical = true};
    memcpy(j->text, f->s.s, f->s.n);
    uint32_t root = parse_json(j);
    if (!root) return refuse(f, "E_META JSON of nmref, near byte %zu of it", j->at);

    /* 5.14, 5.15 */
    uint32_t spec = member(j, root, "spec");
    if (!is_type(j, spec, J_STRING) || !good_spec(text_of(j, spec)))
        return refuse(f, "E_META spec is absent or malformed");
    if (memcmp(text_of(j, spec).s, "1.", 2) != 0) return refuse(f, "E_VERSION major is not 1");

    /* 5.16, 5.17 */
    if (!read_members(j, root, names, got, 3) || !is_type(j, got[0], J_STRING)
        || !is_type(j, got[2], J_OBJECT))
        return refuse(f, "E_META members of nmref");
    str digest = text_of(j, got[0]);
    if (digest.n != 64) return refuse(f, "E_META content_sha256");
    memcpy(f->digest, digest.s, 64);
    if (strspn(f->digest, "0123456789abcdef") != 64) return refuse(f, "E_META content_sha256");
    f->weights = resize(NULL, j->nodes[got[2]].u.list.count, sizeof *f->weights);
    for (uint32_t i = first_of(j, got[2]); i; i = j->nodes[i].next) {
        if (!read_weight(j, i, &f->weights[f->weight_count++]))
            return refuse(f, "E_META description of weight number %zu", f->weight_count);
    }

    /* 5.18: this also says that the weights are in ascending name order. */
    if (!j->canonical) return refuse(f, "E_META nmref is not in canonical form");
    return true;
}

/* ---------------------------------------------------------------- weights and container ------- */

const tensor *find_tensor(const file *f, str name) {
    return bsearch(&name, f->tensors, f->tensor_count, sizeof *f->tensors, by_name);
}

const weight *find_weight(const file *f, str name) {
    return bsearch(&name, f->weights, f->weight_count, sizeof *f->weights, by_name);
}

/* The parts in the order of 5.10. */
static const char *const PARTS[] = {".nm_values", ".nm_codes", ".nm_scale", ".nm_out_values",
                                    ".nm_out_index", ".nm_out_codes"};

static bool has_part(const weight *w, unsigned part) {
    switch (part) {
    case 2: return w->base.type == I8;
    case 3: return w->has_outliers;
    case 4: return w->has_outliers && w->outliers.index;
    case 5: return w->has_outliers && !w->outliers.index;
    default: return true;
    }
}

/* Blocks and bytes of one row (2.2, 2.11, 4.2).  No overflow: K < 2^31 and w <= 84. */
static void lay_out(matrix *a, int64_t columns, pattern *t) {
    make_pattern(t, a->n, a->m);
    a->blocks = ((uint64_t)columns + a->m - 1) / a->m;
    a->row_bytes = a->index ? a->blocks * a->n : (a->blocks * t->w + 7) / 8;
}

/* One part: present, dtype, shape [R, second] or, without second, [R] (6.4). */
static bool find_part(file *f, const weight *w, unsigned part, dtype type, uint64_t second,
                      const unsigned char **data) {
    char name[MAX_NAME + 16];
    int length = snprintf(name, sizeof name, "%.*s%s", PRINT(w->name), PARTS[part]);
    const tensor *t = find_tensor(f, (str){(const unsigned char *)name, (size_t)length});
    if (!t) return refuse(f, "E_MISSING %s", name);
    if (t->type != type)
        return refuse(f, "E_DTYPE %s is %s, not %s", name, DTYPES[t->type].name, DTYPES[type].name);
    const node *nodes = f->header.nodes;
    if (t->rank != (second ? 2 : 1) || nodes[t->shape].u.number != w->rows
        || (second && (uint64_t)nodes[nodes[t->shape].next].u.number != second))
        return refuse(f, "E_SHAPE %s", name);
    *data = f->data + t->begin;
    return true;
}

static bool check_parts(file *f, weight *w) {
    if (w->rows < 0 || w->rows > MAX_SIDE || w->columns < 1 || w->columns > MAX_SIDE)
        return refuse(f, "E_LIMIT %.*s shape [%" PRId64 ",%" PRId64 "]", PRINT(w->name), w->rows,
                      w->columns);
    if (find_tensor(f, w->name))
        return refuse(f, "E_UNEXPECTED %.*s is a weight and a tensor", PRINT(w->name));
    matrix *a = &w->base, *o = &w->outliers;
    lay_out(a, w->columns, &base_pattern);
    if (!find_part(f, w, 0, a->type, a->blocks * a->n, &a->values)
        || !find_part(f, w, 1, U8, a->row_bytes, &a->positions))
        return false;
    if (a->type == I8 && !find_part(f, w, 2, F32, 0, &w->scale)) return false;
    if (!w->has_outliers) return true;
    lay_out(o, w->columns, &outlier_pattern);
    return find_part(f, w, 3, o->type, o->blocks * o->n, &o->values)
        && find_part(f, w, o->index ? 4 : 5, U8, o->row_bytes, &o->positions);
}

/* The tensor is a part of a weight of the file (5.10). */
static bool is_part(const file *f, str name) {
    size_t cut = reserved_suffix(name);
    const weight *w = find_weight(f, (str){name.s, cut});
    for (unsigned part = 0; w && part < sizeof PARTS / sizeof *PARTS; part++)
        if (has_part(w, part) && equal((str){name.s + cut, name.n - cut}, PARTS[part])) return true;
    return false;
}

bool check_container(file *f) {
    for (size_t i = 0; i < f->weight_count; i++)
        if (!check_parts(f, &f->weights[i])) return false;
    for (size_t i = 0; i < f->tensor_count; i++) {
        str name = f->tensors[i].name;
        if (reserved_suffix(name) != name.n && !is_part(f, name))
            return refuse(f, "E_UNEXPECTED %.*s is no part of a weight", PRINT(name));
    }
    return true;
}

/* ---------------------------------------------------------------- data of weights (6.6) ------- */

void use_patterns(const weight *w) {
    make_pattern(&base_pattern, w->base.n, w->base.m);
    if (w->has_outliers) make_pattern(&outlier_pattern, w->outliers.n, w->outliers.m);
}

static const pattern *pattern_of(const matrix *a) {
    return a->m == 256 ? &outlier_pattern : &base_pattern;
}

static u128 code_of(const matrix *a, uint64_t r, uint64_t b) {
    unsigned w = pattern_of(a)->w;
    return fetch(a->positions + r * a->row_bytes, b * w, w);
}

/* The stored positions of a block that has passed its check, ascending, from 0. */
static void positions_of(const matrix *a, uint64_t r, uint64_t b, uint8_t position[MAX_SLOTS]) {
    if (a->index) memcpy(position, a->positions + r * a->row_bytes + b * a->n, a->n);
    else unrank(pattern_of(a), code_of(a, r, b), position);
}

static uint32_t slot_bits(const matrix *a, uint64_t r, uint64_t b, unsigned j) {
    return element(a->values, a->type, (r * a->blocks + b) * a->n + j);
}

/* Steps 2 and 3 of 6.6.  `kind` goes into the message. */
static bool check_matrix(file *f, const weight *w, const matrix *a, const char *kind) {
    const pattern *t = pattern_of(a);
    uint8_t position[MAX_SLOTS];
    for (uint64_t r = 0; r < (uint64_t)w->rows; r++) {
        const unsigned char *row = a->positions + r * a->row_bytes;
        unsigned used = (unsigned)(a->blocks * t->w % 8);   /* bits of the last byte, 0: all */
        if (!a->index && used && row[a->row_bytes - 1] >> used)
            return refuse(f, "E_PAD %.*s%s row %" PRIu64, PRINT(w->name), kind, r);
        for (uint64_t b = 0; b < a->blocks; b++) {
            if (!a->index && !less128(code_of(a, r, b), t->size))
                return refuse(f, "E_CODE_RANGE %.*s%s row %" PRIu64 " block %" PRIu64,
                              PRINT(w->name), kind, r, b);
            positions_of(a, r, b, position);
            for (unsigned j = 1; a->index && j < a->n; j++)
                if (position[j - 1] >= position[j])
                    return refuse(f, "E_INDEX_ORDER %.*s%s row %" PRIu64 " block %" PRIu64,
                                  PRINT(w->name), kind, r, b);
            for (unsigned j = 0; j < a->n; j++)
                if (b * a->m + position[j] >= (uint64_t)w->columns && slot_bits(a, r, b, j))
                    return refuse(f, "E_TAIL %.*s%s row %" PRIu64 " block %" PRIu64 " slot %u",
                                  PRINT(w->name), kind, r, b, j);
        }
    }
    return true;
}

/* The bits of the dense base at columns [256 window, 256 window + 256); 0 where none is stored. */
static void base_window(const weight *w, uint64_t r, uint64_t window, uint32_t bits[WINDOW]) {
    const matrix *a = &w->base;
    uint8_t position[MAX_SLOTS];
    uint64_t from = window * WINDOW, to = from + WINDOW;
    memset(bits, 0, WINDOW * sizeof *bits);
    for (uint64_t b = from / a->m; b < a->blocks && b * a->m < to; b++) {
        positions_of(a, r, b, position);
        for (unsigned j = 0; j < a->n; j++) {
            uint64_t c = b * a->m + position[j];
            if (c >= from && c < to) bits[c - from] = slot_bits(a, r, b, j);
        }
    }
}

/* Step 4 of 6.6.  At a virtual column the base has bits zero, so c < K needs no test. */
static bool check_overlap(file *f, const weight *w) {
    const matrix *o = &w->outliers;
    uint32_t bits[WINDOW];
    uint8_t position[MAX_SLOTS];
    for (uint64_t r = 0; r < (uint64_t)w->rows; r++)
        for (uint64_t b = 0; b < o->blocks; b++) {
            base_window(w, r, b, bits);
            positions_of(o, r, b, position);
            for (unsigned j = 0; j < o->n; j++)
                if (bits[position[j]])
                    return refuse(f, "E_OVERLAP %.*s row %" PRIu64 " column %" PRIu64,
                                  PRINT(w->name), r, b * o->m + position[j]);
        }
    return true;
}

bool check_weight(file *f, const weight *w) {
    use_patterns(w);
    for (uint64_t r = 0; w->scale && r < (uint64_t)w->rows; r++) {
        uint32_t s = element(w->scale, F32, r);
        if (s == 0 || s > (120u + 127) << 23)               /* also sign, infinity and NaN (3.6) */
            return refuse(f, "E_SCALE %.*s row %" PRIu64, PRINT(w->name), r);
    }
    return check_matrix(f, w, &w->base, "")
        && (!w->has_outliers
            || (check_matrix(f, w, &w->outliers, " outliers") && check_overlap(f, w)));
}

/* ---------------------------------------------------------------- digest (5.20, 6.7) ---------- */

/* Adds text to a digest, or prints it if there is none. */
static void put(sha256 *to, const char *text) {
    if (to) sha_add(to, text, strlen(text));
    else fputs(text, stdout);
}

void put_shape(sha256 *to, const file *f, const tensor *t) {
    char number[24];
    put(to, "[");
    for (uint32_t k = t->shape; k; k = f->header.nodes[k].next) {
        snprintf(number, sizeof number, "%" PRId64, f->header.nodes[k].u.number);
        put(to, number);
        if (f->header.nodes[k].next) put(to, ",");
    }
    put(to, "]");
}

static bool check_digest(file *f) {
    sha256 all, one;
    char hex[65];
    sha_start(&all);
    for (size_t i = 0; i < f->tensor_count; i++) {
        const tensor *t = &f->tensors[i];
        sha_start(&one);
        sha_add(&one, f->data + t->begin, (size_t)(t->end - t->begin));
        sha_end(&one, hex);
        put(&all, hex);
        put(&all, " ");
        put(&all, DTYPES[t->type].name);
        put(&all, " ");
        put_shape(&all, f, t);
        put(&all, " ");
        sha_add(&all, t->name.s, t->name.n);
        put(&all, "\n");
    }
    /* In canonical form content_sha256 is the first member and never the last one. */
    size_t cut = strlen("{\"content_sha256\":\"\",") + 64;
    put(&all, "{");
    sha_add(&all, f->s.s + cut, f->s.n - cut);
    put(&all, "\n");
    sha_end(&all, hex);
    if (memcmp(hex, f->digest, 64) != 0) return refuse(f, "E_DIGEST the content has %s", hex);
    return true;
}

bool check_file(file *f) {
    if (!read_header(f) || !read_meta(f) || !check_container(f)) return false;
    for (size_t i = 0; i < f->weight_count; i++)
        if (!check_weight(f, &f->weights[i])) return false;
    return check_digest(f);
}

int open_file(file *f, const char *path) {
    memset(f, 0, sizeof *f);
    if (!read_file(f, path)) {
        refuse(f, "T_IO %s", strerror(errno));
        return EXIT_SYSTEM;
    }
    return check_file(f) ? EXIT_VALID : EXIT_REFUSED;
}

/* ---------------------------------------------------------------- warnings (6.8) -------------- */

/* The mask of the block is fill(columns with bits, barred) (3.9, 4.14).  barred may be NULL. */
static bool is_filled(const matrix *a, uint64_t r, uint64_t b, const uint32_t *barred) {
    uint8_t position[MAX_SLOTS];
    bool stored[256] = {false}, used[256] = {false};
    unsigned empty = 0;
    positions_of(a, r, b, position);
    for (unsigned j = 0; j < a->n; j++) {
        stored[position[j]] = true;
        used[position[j]] = slot_bits(a, r, b, j) != 0;
        empty += !used[position[j]];
    }
    for (unsigned i = 0; i < a->m && empty; i++) {          /* the lowest free columns, no others */
        if (used[i] || (barred && barred[i])) continue;
        if (!stored[i]) return false;
        empty--;
    }
    return true;
}

static bool is_canonical(const weight *w) {
    uint32_t bits[WINDOW];
    for (uint64_t r = 0; r < (uint64_t)w->rows; r++) {
        for (uint64_t b = 0; b < w->base.blocks; b++)
            if (!is_filled(&w->base, r, b, NULL)) return false;
        for (uint64_t b = 0; w->has_outliers && b < w->outliers.blocks; b++) {
            base_window(w, r, b, bits);
            if (!is_filled(&w->outliers, r, b, bits)) return false;
        }
    }
    return true;
}

/* Virtual slots have bits zero, so all slots may be looked at. */
static bool all_finite(const weight *w, const matrix *a) {
    uint64_t count = (uint64_t)w->rows * a->blocks * a->n;
    for (uint64_t i = 0; i < count; i++)
        if (!is_finite(a->type, element(a->values, a->type, i))) return false;
    return true;
}

unsigned warnings_of(const weight *w) {
    unsigned found = 0;
    use_patterns(w);
    if (!is_canonical(w)) found |= NONCANON;
    if (!all_finite(w, &w->base) || (w->has_outliers && !all_finite(w, &w->outliers)))
        found |= NONFINITE;
    return found;
}

/* ---------------------------------------------------------------- decoding (4.9 to 4.11) ------ */

dtype result_type(const weight *w) {
    if (w->base.type == I8 || (w->has_outliers && w->outliers.type != w->base.type)) return F32;
    return w->base.type;
}

size_t decode_window(const weight *w, uint64_t r, uint64_t b, unsigned char out[WINDOW * 4]) {
    const matrix *o = &w->outliers;
    dtype type = result_type(w);
    unsigned size = DTYPES[type].size;
    uint32_t bits[WINDOW], scale = w->scale ? element(w->scale, F32, r) : 0;
    uint8_t position[MAX_SLOTS];
    uint64_t left = (uint64_t)w->columns - b * WINDOW;
    unsigned width = left < WINDOW ? (unsigned)left : WINDOW;
    base_window(w, r, b, bits);
    for (unsigned i = 0; i < width && type != w->base.type; i++)
        bits[i] = w->scale ? scale_i8(bits[i], scale) : widen_float(w->base.type, bits[i]);
    if (w->has_outliers) positions_of(o, r, b, position);
    for (unsigned j = 0; w->has_outliers && j < o->n; j++) {
        uint32_t x = slot_bits(o, r, b, j);
        bits[position[j]] = type == o->type ? x : widen_float(o->type, x);
    }
    for (unsigned i = 0; i < width; i++)
        for (unsigned k = 0; k < size; k++) out[i * size + k] = (unsigned char)(bits[i] >> (8 * k));
    return (size_t)width * size;
}
