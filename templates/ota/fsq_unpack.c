/* See fsq_unpack.h. Every number of the package is checked before it is used; the same checks, in the same order, as fpga_squeeze/package/container.py. */
#include "fsq_unpack.h"

#include <string.h>

enum { HEADER = 132, RECORD = 37, IMAGE_HEAD = 16, CRC_BYTES = 4, SIGNATURE = 64, MAX_WEIGHTS = 1 << 23, MAX_IMAGE = 1 << 26, MAX_LAYERS = 1024 };
enum { P_BITS = 28, P_ONE = 1 << P_BITS, P_MIN = 1 << 14, P_MAX = P_ONE - P_MIN, LEARN_LIMIT = 1022, DIRECT = FSQ_MODELS - 1 };

/* Where the models of a kind of numbers are: zero flag and length flags of context 0, signs, bits below the leading one. */
struct kind { int head, sign, tree, depth, longest; };
static const struct kind WEIGHT = {0, 864, 873, 8, 17}, BIAS = {1129, 1187, 1188, 3, 57}, SHIFT = {1196, 1214, 1215, 3, 17};

struct layer {
    uint32_t index, coding, loaded, oc, ic, kernel, weight_bits, bias_bits, shift_bits, p_k, p_oc, p_ic, offset, stream_bytes;
    uint64_t taps, weights, ic_folds, weight_row, bias_row, shift_row, weight_bytes, bias_bytes, image_bytes; /* rows and memories in bytes */
    const uint8_t *stream;
};

static uint32_t u16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t *p) { return u16(p) | u16(p + 2) << 16; }
static void put_u32(uint8_t *p, uint32_t v) { for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i)); }
static uint64_t row_bytes(uint64_t lanes, uint32_t bits) { return (lanes * bits + 7) / 8; }

static uint32_t crc32(const uint8_t *p, uint32_t bytes) {
    uint32_t crc = 0xFFFFFFFFu;
    while (bytes--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static int all_zero(const uint8_t *p, int n) {
    while (n--) if (*p++) return 0;
    return 1;
}

/* ---- the range decoder ---- */

static int bit(struct fsq_work *w, int model) {
    uint32_t p = w->probability[model], n = w->seen[model], bound = (uint32_t)((uint64_t)w->width * p >> P_BITS);
    int found = w->code >= bound;
    if (found) {
        w->code -= bound;
        w->width -= bound;
        p -= p / (n + 2);
    } else {
        w->width = bound;
        p += (P_ONE - p) / (n + 2);
    }
    if (n <= LEARN_LIMIT) w->probability[model] = p < P_MIN ? P_MIN : p > P_MAX ? P_MAX : p; /* the model of bits without one stays */
    if (n < LEARN_LIMIT) w->seen[model] = (uint16_t)(n + 1);
    while (w->width < 1u << 24) {
        if (w->next == w->end) {
            w->failed = 1;
            w->code = 0; /* zeros only from here: every loop below ends */
            w->width = 0xFFFFFFFFu;
            return 0;
        }
        w->code = w->code << 8 | *w->next++;
        w->width <<= 8;
    }
    return found;
}

static int64_t number(struct fsq_work *w, const struct kind *k, int head, int sign) {
    if (!bit(w, head)) return 0;
    int negative = bit(w, sign), length = 1;
    while (length < k->longest && bit(w, head + length)) length++;
    int64_t value = 1, models = (int64_t)1 << (k->depth - 1);
    int base = k->tree + (1 << ((length < k->depth ? length : k->depth) - 1)) - 1;
    for (int i = 1; i < length; i++) value = 2 * value + bit(w, value < models ? base + (int)value : DIRECT);
    return negative ? -value : value;
}

static int start(struct fsq_work *w, const struct layer *y) {
    for (int i = 0; i < FSQ_MODELS; i++) w->probability[i] = P_ONE / 2, w->seen[i] = 0;
    w->seen[DIRECT] = 65535;
    w->failed = y->stream_bytes < 4;
    if (w->failed) return 0;
    w->next = y->stream + 4;
    w->end = y->stream + y->stream_bytes;
    w->width = 0xFFFFFFFFu;
    w->code = (uint32_t)y->stream[0] << 24 | (uint32_t)y->stream[1] << 16 | (uint32_t)y->stream[2] << 8 | y->stream[3];
    return w->code < w->width; /* it stays below for ever, so that it fits */
}

/* ---- fields of the image: `bits` bits at bit `at`, low first ---- */

static void put(uint8_t *p, uint64_t at, uint32_t bits, uint64_t value) {
    for (uint32_t done = 0; done < bits;) {
        uint64_t place = at + done;
        uint32_t low = place & 7, n = bits - done < 8 - low ? bits - done : 8 - low;
        uint32_t mask = ((1u << n) - 1) << low;
        p[place >> 3] = (uint8_t)((p[place >> 3] & ~mask) | ((uint32_t)(value >> done) << low & mask));
        done += n;
    }
}

static uint64_t get(const uint8_t *p, uint64_t at, uint32_t bits) {
    uint64_t value = 0;
    for (uint32_t done = 0; done < bits;) {
        uint64_t place = at + done;
        uint32_t low = place & 7, n = bits - done < 8 - low ? bits - done : 8 - low;
        value |= (uint64_t)((uint32_t)p[place >> 3] >> low & ((1u << n) - 1)) << done;
        done += n;
    }
    return value;
}

static int64_t get_signed(const uint8_t *p, uint64_t at, uint32_t bits) {
    int64_t half = (int64_t)1 << (bits - 1), value = (int64_t)get(p, at, bits);
    return value < half ? value : value - 2 * half;
}

/* Bit of weight (o, i, t) of the layer; t counts row by row through the kernel. A fold of K taps is a kernel column. */
static uint64_t weight_place(const struct layer *y, uint32_t o, uint32_t i, uint32_t t) {
    if (y->p_k == y->kernel && y->kernel > 1) t = t % y->kernel * y->kernel + t / y->kernel;
    uint64_t row = ((uint64_t)(o / y->p_oc) * (y->taps / y->p_k) + t / y->p_k) * y->ic_folds + i / y->p_ic;
    uint64_t lane = ((uint64_t)(o % y->p_oc) * y->p_k + t % y->p_k) * y->p_ic + i % y->p_ic;
    return row * y->weight_row * 8 + lane * y->weight_bits;
}

/* ---- a layer into its place in the image ---- */

static int channel(struct fsq_work *w, const struct layer *y, uint8_t *memory, uint32_t o, uint32_t shift_class) {
    int64_t half = (int64_t)1 << (y->weight_bits - 1), size = 0, last = 0;
    int kind = 0, before = 0, beyond = 0;
    for (uint32_t i = 0; i < y->ic; i++)
        for (uint32_t t = 0; t < y->taps; t++) {
            uint64_t place = weight_place(y, o, i, t);
            int64_t old = y->coding ? get_signed(memory, place, y->weight_bits) : 0;
            int neighbours = 0;
            for (int64_t m = (size + last + 1) >> 1; m && neighbours < 5; m >>= 1) neighbours++;
            int context = (y->coding && old == 0 ? 24 : 0) + (int)shift_class * 6 + neighbours;
            int64_t change = number(w, &WEIGHT, 18 * context, WEIGHT.sign + 3 * kind + before), value = old + change;
            beyond |= value < -half || value >= half;
            put(memory, place, y->weight_bits, (uint64_t)value);
            last = size;
            size = change < 0 ? -change : change;
            before = kind;
            kind = change == 0 ? 0 : change < 0 ? 1 : 2;
        }
    return w->failed ? FSQ_STREAM : beyond ? FSQ_VALUE : FSQ_OK;
}

static int decode(struct fsq_work *w, const struct layer *y, uint8_t *memory) {
    int64_t bias_half = (int64_t)1 << (y->bias_bits - 1), shift = 0;
    uint8_t *biases = memory + y->weight_bytes, *shifts = biases + y->bias_bytes;
    if (!start(w, y)) return FSQ_STREAM;
    if (!y->coding) memset(memory, 0, (size_t)y->image_bytes);
    for (uint32_t o = 0; o < y->oc; o++) {
        uint64_t fold = o / y->p_oc, lane = o % y->p_oc;
        uint64_t bias_place = fold * y->bias_row * 8 + lane * y->bias_bits, shift_place = fold * y->shift_row * 8 + lane * y->shift_bits;
        if (y->coding) shift = (int64_t)get(shifts, shift_place, y->shift_bits); /* less shift_min, as in the image */
        shift += number(w, &SHIFT, SHIFT.head, SHIFT.sign);
        int64_t bias = number(w, &BIAS, BIAS.head, BIAS.sign) + (y->coding ? get_signed(biases, bias_place, y->bias_bits) : 0);
        if (w->failed) return FSQ_STREAM;
        if (shift < 0 || shift >= (int64_t)1 << y->shift_bits || bias < -bias_half || bias >= bias_half) return FSQ_VALUE;
        put(shifts, shift_place, y->shift_bits, (uint64_t)shift);
        put(biases, bias_place, y->bias_bits, (uint64_t)bias);
        int error = channel(w, y, memory, o, (uint32_t)shift & 3);
        if (error) return error;
    }
    return w->next != w->end || w->code ? FSQ_STREAM : FSQ_OK;
}

/* ---- header and records ---- */

/* The record at `p`, of which `left` bytes are there: its bytes, or 0 when it is impossible. */
static uint32_t read_layer(const uint8_t *p, uint32_t left, struct layer *y) {
    if (left < RECORD) return 0;
    uint32_t name_bytes = p[36];
    *y = (struct layer){.index = u16(p), .coding = p[2], .loaded = p[3], .oc = u32(p + 4), .ic = u32(p + 8), .kernel = p[12], .weight_bits = p[13],
                        .bias_bits = p[14], .shift_bits = p[15], .p_k = u16(p + 18), .p_oc = u32(p + 20), .p_ic = u32(p + 24), .offset = u32(p + 28),
                        .stream_bytes = u32(p + 32), .stream = p + RECORD + name_bytes}; /* the smallest shift, p + 16, is for the host */
    if (y->coding > 1 || left - RECORD < name_bytes || left - RECORD - name_bytes < y->stream_bytes || name_bytes < 1 || name_bytes > 127) return 0;
    for (const uint8_t *c = p + RECORD; c < y->stream; c++)
        if (!((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || *c == '.' || *c == '_' || *c == '-')) return 0;
    if (y->loaded > 1 || y->oc < 1 || y->oc > 65536 || y->ic < 1 || y->ic > 65536 || y->kernel < 1 || y->kernel > 64 || y->weight_bits < 2 ||
        y->weight_bits > 16 || y->bias_bits < 1 || y->bias_bits > 56 || y->shift_bits > 16 || y->p_oc < 1 || y->p_oc > y->oc || y->p_ic < 1 ||
        y->p_ic > y->ic)
        return 0;
    y->taps = (uint64_t)y->kernel * y->kernel;
    y->weights = (uint64_t)y->oc * y->ic * y->taps;
    if ((y->p_k != 1 && y->p_k != y->kernel && y->p_k != y->taps) || y->weights > MAX_WEIGHTS) return 0;
    uint64_t oc_folds = (y->oc + y->p_oc - 1) / y->p_oc;
    y->ic_folds = (y->ic + y->p_ic - 1) / y->p_ic;
    y->weight_row = row_bytes((uint64_t)y->p_oc * y->p_ic * y->p_k, y->weight_bits);
    y->bias_row = row_bytes(y->p_oc, y->bias_bits);
    y->shift_row = row_bytes(y->p_oc, y->shift_bits);
    y->weight_bytes = oc_folds * (y->taps / y->p_k) * y->ic_folds * y->weight_row;
    y->bias_bytes = oc_folds * y->bias_row;
    y->image_bytes = y->weight_bytes + y->bias_bytes + oc_folds * y->shift_row;
    return y->image_bytes > MAX_IMAGE ? 0 : RECORD + name_bytes + y->stream_bytes;
}

static int check_records(const uint8_t *p, uint32_t left, uint32_t layers, uint32_t count, int full, uint32_t image_bytes) {
    uint64_t place = IMAGE_HEAD, weights = 0;
    int64_t last = -1;
    for (; count; count--) {
        struct layer y;
        uint32_t bytes = read_layer(p, left, &y);
        if (!bytes) return FSQ_RECORD;
        weights += y.weights;
        if (y.index <= last || y.index >= layers || (full && y.coding) || weights > MAX_WEIGHTS) return FSQ_RECORD;
        if (!y.loaded && y.offset) return FSQ_RECORD;
        if (y.loaded) {
            if (y.offset < place || (full && y.offset != place) || y.offset + y.image_bytes + CRC_BYTES > image_bytes) return FSQ_RECORD;
            place = y.offset + y.image_bytes;
        }
        last = y.index;
        p += bytes;
        left -= bytes;
    }
    return left || (full && image_bytes && place != image_bytes - CRC_BYTES) ? FSQ_RECORD : FSQ_OK;
}

static int check_package(const uint8_t *p, uint32_t bytes) {
    if (bytes < HEADER + CRC_BYTES) return memcmp(p, "FSQP", bytes < 4 ? bytes : 4) ? FSQ_MAGIC : FSQ_SIZE;
    if (memcmp(p, "FSQP", 4)) return FSQ_MAGIC;
    if (p[4] != 1) return FSQ_VERSION;
    uint32_t flags = p[6], layers = u16(p + 8), count = u16(p + 10), body = u32(p + 12), image_bytes = u32(p + 24);
    int full = p[5] == 0;
    if ((uint64_t)bytes != (uint64_t)HEADER + body + CRC_BYTES + (flags & 1 ? SIGNATURE : 0)) return FSQ_SIZE;
    if (crc32(p, HEADER + body) != u32(p + HEADER + body)) return FSQ_CRC;
    if (p[5] > 1 || flags > 3 || p[7] || layers < 1 || layers > MAX_LAYERS || (full ? count != layers : count > layers)) return FSQ_HEADER;
    if (flags & 2 ? image_bytes <= IMAGE_HEAD + CRC_BYTES || image_bytes > MAX_IMAGE : !all_zero(p + 16, 20)) return FSQ_HEADER;
    if (full && (u32(p + 32) || !all_zero(p + 100, 32))) return FSQ_HEADER;
    return check_records(p + HEADER, body, layers, count, full, image_bytes);
}

uint32_t fsq_image_bytes(const uint8_t *package, uint32_t package_bytes) {
    return check_package(package, package_bytes) ? 0 : u32(package + 24);
}

int fsq_unpack(const uint8_t *package, uint32_t package_bytes, uint8_t *image, uint32_t capacity, const uint8_t *machine_shape, struct fsq_work *work) {
    int error = check_package(package, package_bytes);
    if (error) return error;
    uint32_t bytes = u32(package + 24), body = bytes - CRC_BYTES, left = u32(package + 12);
    const uint8_t *p = package + HEADER;
    uint8_t head[IMAGE_HEAD] = {'F', 'S', 'Q', '1'};
    if (!(package[6] & 2)) return FSQ_PORT;
    memcpy(head + 4, package + 16, 8);
    put_u32(head + 12, body - IMAGE_HEAD);
    if (machine_shape && memcmp(machine_shape, package + 16, 8)) return FSQ_SHAPE;
    if (bytes > capacity) return FSQ_SPACE;
    if (package[5] && (memcmp(image, head, IMAGE_HEAD) || u32(image + body) != u32(package + 32) || crc32(image, body) != u32(package + 32)))
        return FSQ_BASE;
    memset(image, 0, IMAGE_HEAD);
    for (uint32_t count = u16(package + 10); count; count--) {
        struct layer y;
        uint32_t record = read_layer(p, left, &y);
        if (y.loaded && (error = decode(work, &y, image + y.offset))) return error;
        p += record;
        left -= record;
    }
    memcpy(image, head, IMAGE_HEAD);
    put_u32(image + body, crc32(image, body));
    if (u32(image + body) == u32(package + 28)) return FSQ_OK;
    memset(image, 0, IMAGE_HEAD);
    return FSQ_RESULT;
}
