/*
 * The decoder that both programs share: an ordered reader of nmref files, version 1.0, in C11.
 *
 * Numbers in parentheses, such as (5.7), are clauses of SPEC.md, from which alone it is written.
 * Blocks are decoded one at a time and W leaves in windows of 256 columns: beyond the file and its
 * header nothing here grows with a shape.
 */
#ifndef NMREF_CORE_H
#define NMREF_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_VALID = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_SYSTEM = 3 };

enum {
    MAX_NAME = 512,                           /* (5.5) */
    WINDOW = 256,                             /* columns handled together: one outlier block */
    MAX_SLOTS = 64                            /* stored positions of one block, any pattern */
};

/* ---------------------------------------------------------------- text ------------------------ */

/* A counted string; may contain zero bytes. */
typedef struct {
    const unsigned char *s;
    size_t n;
} str;

/* Two arguments for "%.*s".  Only for names that have passed (5.5): printable and short. */
#define PRINT(x) (int)(x).n, (const char *)(x).s

str literal(const char *s);

/* Order of the bytes (1.7). */
int compare(str a, str b);
bool equal(str a, const char *b);

/* For qsort and bsearch of strings and of structures whose first member is their name. */
int by_name(const void *a, const void *b);

/* Running out of memory is no judgement on the file (6.10): the program ends. */
void *resize(void *old, size_t count, size_t size);

/* ---------------------------------------------------------------- 128-bit integers ------------ */

/* Codes of 16:256 have 84 bits (2.13). */
typedef struct {
    uint64_t hi, lo;
} u128;

u128 add128(u128 a, u128 b);
bool less128(u128 a, u128 b);

/* ---------------------------------------------------------------- SHA-256 (FIPS 180-4) -------- */

typedef struct {
    uint32_t h[8];
    uint64_t length;                          /* bytes so far */
    unsigned char block[64];
} sha256;

/* ---------------------------------------------------------------- JSON (5.3, 5.13) ------------ */

enum { J_LITERAL, J_NULL, J_NUMBER, J_STRING, J_ARRAY, J_OBJECT };

/* Nodes live in one array and name each other by index; index 0 means none.  Strings are decoded
 * in place, so a text and a name are offsets into the parsed text, which is below 2^32 bytes. */
typedef struct {
    uint32_t type;
    uint32_t next;                            /* next member or element of the same parent */
    uint32_t name, name_n;                    /* of a member */
    union {
        int64_t number;
        struct {
            uint32_t at, n;
        } text;
        struct {
            uint32_t first, count;
        } list;
    } u;
} node;

typedef struct {
    unsigned char *text;
    size_t n, at;
    node *nodes;
    size_t count, room;
    unsigned max_depth;
    bool minus;                               /* numbers may have a minus sign (5.13) */
    bool canonical;                           /* nothing so far contradicts (5.18) */
} json;

/* A whole text: one object, then nothing but spaces.  Returns its node or 0. */
uint32_t parse_json(json *j);

/* First member or element of a list, 0 if it is empty. */
uint32_t first_of(const json *j, uint32_t list);

/* Finds a member by its name; 0 if the object has none. */
uint32_t member(const json *j, uint32_t object, const char *name);
bool is_type(const json *j, uint32_t i, uint32_t type);
str name_of(const json *j, uint32_t i);
str text_of(const json *j, uint32_t i);

/* ---------------------------------------------------------------- patterns (part 2) ----------- */

enum {
    CELLS = 257 * 17,                         /* enough for 16:256, and for 63:64 with 65 * 64 */
    MAX_DIGITS = 256 / 4 + 1                  /* hexadecimal digits of a mask, and the end */
};

typedef struct {
    unsigned n, m;                            /* n stored of m */
    unsigned w;                               /* width of a code (2.7) */
    u128 size;                                /* number of codes, C(m, n) */
    u128 c[CELLS];                            /* c[p * (n + 1) + j] = C(p, j) (2.13) */
} pattern;

void make_pattern(pattern *t, unsigned n, unsigned m);

/* The text of a base pattern (2.1) or of an outlier pattern (4.1). */
bool parse_any_pattern(str text, pattern *t);

/* Code to ascending positions (2.14).  The code is smaller than C(m, n). */
void unrank(const pattern *t, u128 code, uint8_t *position);
u128 rank(const pattern *t, const uint8_t *position);

/* Hexadecimal digits to ascending positions; false if the mask is none of the pattern. */
bool parse_mask(const pattern *t, str text, uint8_t *position);

/* Ascending positions to ceil(m / 4) hexadecimal digits. */
void format_mask(const pattern *t, const uint8_t *position, char text[MAX_DIGITS]);

/* ---------------------------------------------------------------- elements (5.8) -------------- */

typedef enum {
    BOOL, U8, I8, F8_E4M3, F8_E5M2, F8_E8M0, I16, U16, F16, BF16, I32, U32, F32, I64, U64, F64,
    C64, UNKNOWN
} dtype;

typedef struct {
    const char *name;
    unsigned size;
} dtype_info;

extern const dtype_info DTYPES[];
dtype find_dtype(str name);

/* ---------------------------------------------------------------- files (parts 5 and 6) ------- */

typedef struct {
    str name;
    dtype type;
    uint32_t shape;                           /* first node of the shape, 0 if it is empty */
    uint32_t rank;
    int64_t begin, end;                       /* in the data section */
} tensor;

/* One N:M matrix of a weight: the base or the outliers. */
typedef struct {
    unsigned n, m;
    bool index;                               /* coding idx8 */
    dtype type;
    uint64_t blocks, row_bytes;               /* of one row; row_bytes of the positions */
    const unsigned char *positions, *values;
} matrix;

typedef struct {
    str name;
    int64_t rows, columns;
    bool has_outliers;
    matrix base, outliers;
    const unsigned char *scale;               /* of an I8 base, else NULL */
} weight;

typedef struct {
    unsigned char *bytes;                     /* the whole file */
    size_t size;
    const unsigned char *data;                /* the data section */
    size_t data_size;
    json header, meta;
    str s;                                    /* the text S (5.12), canonical once it has passed */
    char digest[65];                          /* content_sha256 */
    tensor *tensors;                          /* in ascending name order */
    size_t tensor_count;
    weight *weights;                          /* in ascending name order */
    size_t weight_count;
    char message[1400];                       /* why the file is refused; begins with the code */
} file;

/* All checks in the order of part 6 of a file whose bytes and size are set. */
bool check_file(file *f);

/* Reads and checks a file.  Returns an exit code; a refusal leaves its message in f. */
int open_file(file *f, const char *path);
void close_file(file *f);

const tensor *find_tensor(const file *f, str name);
const weight *find_weight(const file *f, str name);

/* Where the reserved suffix `.nm_...` of a name begins, or the length of the name (5.11). */
size_t reserved_suffix(str name);

/* The members that describe one weight (5.16). */
bool read_weight(const json *j, uint32_t object, weight *w);

/* The checks of 6.4 and 6.5, and those of 6.6 of one weight. */
bool check_container(file *f);
bool check_weight(file *f, const weight *w);

/* Adds the text of a shape (5.20) to a digest, or prints it if `to` is NULL. */
void put_shape(sha256 *to, const file *f, const tensor *t);

/* ---------------------------------------------------------------- valid weights --------------- */

/* Makes a weight the one at hand; check_weight and warnings_of do so too. */
void use_patterns(const weight *w);

/* Warnings (6.8) as a set of bits. */
enum { NONCANON = 1, NONFINITE = 2 };
unsigned warnings_of(const weight *w);

/* The dtype of W (4.10). */
dtype result_type(const weight *w);

/* W of the weight at hand (4.9): row r, columns [256 b, 256 b + 256), or fewer at the end of the
 * row, as little-endian elements.  Returns the number of bytes. */
size_t decode_window(const weight *w, uint64_t r, uint64_t b, unsigned char out[WINDOW * 4]);

#endif
