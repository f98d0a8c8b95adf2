/* Unpacks a package of fpga-squeeze into the image for the load port. Plain C99, no heap, no file, no other library; docs/over-the-air.md has the format.
 *
 *     static uint8_t image[IMAGE_BYTES];          what the DMA sends to s_load_axis; for a delta it must hold the image that is loaded now
 *     static struct fsq_work work;
 *     int error = fsq_unpack(package, package_bytes, image, sizeof image, machine_shape, &work);
 *     if (error == FSQ_OK) { send fsq_image_bytes(package, package_bytes) bytes of image }
 *
 * CRC-32 finds damage, not malice: where packages come over a channel that is not trusted, check the Ed25519 signature first. It is the last 64 bytes of a
 * signed package and is over all bytes before it.
 */
#ifndef FSQ_UNPACK_H
#define FSQ_UNPACK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fsq_error {
    FSQ_OK = 0,
    FSQ_SIZE = 1,     /* cut short, or bytes behind the end */
    FSQ_MAGIC = 2,    /* no package */
    FSQ_VERSION = 3,  /* of another format version */
    FSQ_CRC = 4,      /* damaged */
    FSQ_HEADER = 5,   /* an impossible header */
    FSQ_RECORD = 6,   /* an impossible layer */
    FSQ_PORT = 7,     /* for a machine without a load port */
    FSQ_SPACE = 8,    /* the image is larger than `capacity` */
    FSQ_SHAPE = 9,    /* for another machine */
    FSQ_BASE = 10,    /* a delta against another image than the one in `image` */
    FSQ_STREAM = 11,  /* coded weights that do not end where they should */
    FSQ_VALUE = 12,   /* a number beyond its width */
    FSQ_RESULT = 13   /* the image has another CRC than the package says */
};

/* Up to FSQ_SPACE, FSQ_SHAPE and FSQ_BASE nothing was written into `image`. After an error behind them its first bytes are zero, so that no loader takes it. */

#define FSQ_MODELS 1224

struct fsq_work {
    uint32_t probability[FSQ_MODELS];
    uint16_t seen[FSQ_MODELS];
    const uint8_t *next, *end;
    uint32_t code, width;
    int failed;
};

/* `machine_shape`: the 8 bytes behind FSQ1 of any image of this machine, or NULL to take a package of any machine. */
int fsq_unpack(const uint8_t *package, uint32_t package_bytes, uint8_t *image, uint32_t capacity, const uint8_t *machine_shape, struct fsq_work *work);

/* Bytes of the image of a package; 0 when it is no whole package, or of a machine without a load port. */
uint32_t fsq_image_bytes(const uint8_t *package, uint32_t package_bytes);

#ifdef __cplusplus
}
#endif

#endif
