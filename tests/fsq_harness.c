/* Reads cases from stdin and runs the decoder on each, in buffers of exactly the right size so that a sanitizer sees every byte beyond them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fsq_unpack.h"

static uint32_t word(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static uint8_t *take(uint32_t bytes) {
    uint8_t *p = malloc(bytes ? bytes : 1);
    if (!p || fread(p, 1, bytes, stdin) != bytes) exit(2);
    return p;
}

static void answer(uint32_t v) {
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    fwrite(b, 1, 4, stdout);
}

int main(void) {
    static struct fsq_work work;
    uint8_t head[21];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        uint32_t package_bytes = word(head), base_bytes = word(head + 4), capacity = word(head + 8);
        uint8_t *package = take(package_bytes), *base = take(base_bytes), *image = malloc(capacity ? capacity : 1);
        if (!image || base_bytes > capacity) return 2;
        memset(image, 0xA5, capacity); /* what was in memory before */
        memcpy(image, base, base_bytes);
        int code = fsq_unpack(package, package_bytes, image, capacity, head[12] ? head + 13 : NULL, &work);
        uint32_t image_bytes = fsq_image_bytes(package, package_bytes), kept = code ? base_bytes : image_bytes;
        answer((uint32_t)code);
        answer(image_bytes);
        answer(kept);
        fwrite(image, 1, kept, stdout);
        free(package);
        free(base);
        free(image);
    }
    return 0;
}
