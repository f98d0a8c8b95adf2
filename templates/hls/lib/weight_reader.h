// Weights that are stored coded, without loss, and decoded a row a cycle: indices into a table, or a bitmap and the weights that it marks.
//
// A reader stands for the memory of rows in mvu.h: operator[] gives a row of packed fields. MEMORIES is a generated struct of static functions that give
// the stored rows; CFG has, besides what conv_shape.h names, VALUE_BITS (of an index, or of a value where there is no table), CODEBOOK (1: there is a
// table) and for sparse weights GROUPS, GROUP_LANES, READ, COLUMNS and VALUE_WORDS.
#pragma once

#include "conv_shape.h"
#include "packed.h"

namespace fsq {

// Puts `value` into field `index` of a row whose bits are zero.
template <unsigned BITS, unsigned BYTES>
void set_field(unsigned char (&row)[BYTES], unsigned index, int value) {
#pragma HLS INLINE
    static_assert(BITS >= 1 && BITS <= 16, "a weight is 1 to 16 bits wide");
    const unsigned raw = (static_cast<unsigned>(value) & ((1u << BITS) - 1)) << (index * BITS % 8);
SCATTER:
    for (unsigned b = 0; b < field_span(BITS); ++b) {
#pragma HLS UNROLL
        if (index * BITS / 8 + b < BYTES) {
            row[index * BITS / 8 + b] |= static_cast<unsigned char>(raw >> (8 * b));
        }
    }
}

// What a stored number stands for.
template <typename CFG, typename MEMORIES>
int stored_weight(unsigned number) {
#pragma HLS INLINE
    if (CFG::CODEBOOK == 1) {
        return MEMORIES::entry(number);
    }
    constexpr unsigned UP = 32 - CFG::VALUE_BITS;
    return static_cast<int>(number << UP) >> UP;
}

// Rows of indices.
template <typename CFG, typename MEMORIES>
struct codebook_weights {
    static constexpr unsigned LANES = CFG::P_OC * conv_shape<CFG>::WINDOW_LANES;
    static constexpr unsigned BYTES = conv_shape<CFG>::WEIGHT_ROW_BYTES;

    unsigned char fields[BYTES];

    const unsigned char (&operator[](unsigned row))[BYTES] {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable=fields type=complete
    CLEAR:
        for (unsigned i = 0; i < BYTES; ++i) {
#pragma HLS UNROLL
            fields[i] = 0;
        }
    LANE:
        for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
            set_field<CFG::WEIGHT_BITS>(fields, i, stored_weight<CFG, MEMORIES>(unsigned_field<CFG::VALUE_BITS>(MEMORIES::stored(row), i)));
        }
        return fields;
    }
};

// A bitmap, and groups of lanes that each have a stream of values: value n waits in column n mod COLUMNS, a small FIFO, until its row asks for it. A row
// takes values of columns that follow each other, each once at most. READ values a row are enough where the generator says so
// (hardware/weight_storage.py). Rows must be asked for in order, and from the first one again after the last.
template <typename CFG, typename MEMORIES>
struct sparse_weights {
    static constexpr unsigned LANES = CFG::P_OC * conv_shape<CFG>::WINDOW_LANES;
    static constexpr unsigned BYTES = conv_shape<CFG>::WEIGHT_ROW_BYTES;
    static constexpr unsigned ROWS = 32;
    static constexpr unsigned BANKS = CFG::COLUMNS / CFG::READ;
    static_assert(BANKS * CFG::READ == CFG::COLUMNS, "a word of values must fill whole columns");
    static_assert(CFG::GROUPS * CFG::GROUP_LANES >= LANES, "every lane belongs to a group");

    unsigned char fields[BYTES];
    unsigned short column[CFG::GROUPS][CFG::COLUMNS][ROWS];
    unsigned char read_row[CFG::GROUPS][CFG::COLUMNS];
    unsigned char first[CFG::GROUPS];      // the column of the next row's first value
    unsigned short room[CFG::GROUPS];      // values that the columns still take
    unsigned word[CFG::GROUPS];            // the next word of values
    unsigned char bank[CFG::GROUPS];       // the columns that it goes to
    unsigned char write_row[CFG::GROUPS];

    // Fills the columns.
    sparse_weights() {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable=column type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=column type=complete dim=2
#pragma HLS ARRAY_PARTITION variable=read_row type=complete dim=0
#pragma HLS ARRAY_PARTITION variable=first type=complete
#pragma HLS ARRAY_PARTITION variable=room type=complete
#pragma HLS ARRAY_PARTITION variable=word type=complete
#pragma HLS ARRAY_PARTITION variable=bank type=complete
#pragma HLS ARRAY_PARTITION variable=write_row type=complete
    RESET:
        for (unsigned g = 0; g < CFG::GROUPS; ++g) {
#pragma HLS UNROLL
            first[g] = 0;
            room[g] = CFG::COLUMNS * ROWS;
            word[g] = 0;
            bank[g] = 0;
            write_row[g] = 0;
        RESET_COLUMN:
            for (unsigned c = 0; c < CFG::COLUMNS; ++c) {
#pragma HLS UNROLL
                read_row[g][c] = 0;
            }
        }
    FILL:
        for (unsigned i = 0; i < BANKS * ROWS; ++i) {
            // A word a cycle: the memory is read in order.
#pragma HLS PIPELINE II=1
            refill();
        }
    }

    // One word of values for every group that has room for it.
    void refill() {
#pragma HLS INLINE
    GROUP:
        for (unsigned g = 0; g < CFG::GROUPS; ++g) {
#pragma HLS UNROLL
            if (room[g] >= CFG::READ) {
                room[g] -= CFG::READ;
            VALUE:
                for (unsigned c = 0; c < CFG::COLUMNS; ++c) {
#pragma HLS UNROLL
                    if (bank[g] == c / CFG::READ) {
                        column[g][c][write_row[g]] = static_cast<unsigned short>(unsigned_field<CFG::VALUE_BITS>(MEMORIES::values(g, word[g]), c % CFG::READ));
                    }
                }
                word[g] = word[g] + 1 == CFG::VALUE_WORDS ? 0 : word[g] + 1;
                if (++bank[g] == BANKS) {
                    bank[g] = 0;
                    write_row[g] = (write_row[g] + 1) % ROWS;
                }
            }
        }
    }

    const unsigned char (&operator[](unsigned row))[BYTES] {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable=fields type=complete
        // A value lies in its column for at least as many rows as it takes to read it from its memory (READ_DELAY of hardware/weight_storage.py).
#pragma HLS DEPENDENCE variable=column type=inter direction=RAW distance=3 dependent=true
        refill();
    CLEAR:
        for (unsigned i = 0; i < BYTES; ++i) {
#pragma HLS UNROLL
            fields[i] = 0;
        }
    GROUP:
        for (unsigned g = 0; g < CFG::GROUPS; ++g) {
#pragma HLS UNROLL
            unsigned short head[CFG::COLUMNS];
#pragma HLS ARRAY_PARTITION variable=head type=complete
        HEAD:
            for (unsigned c = 0; c < CFG::COLUMNS; ++c) {
#pragma HLS UNROLL
                head[c] = column[g][c][read_row[g][c]];
            }
            unsigned taken = 0;
        LANE:
            for (unsigned i = 0; i < CFG::GROUP_LANES; ++i) {
#pragma HLS UNROLL
                const unsigned lane = g * CFG::GROUP_LANES + i;
                const unsigned held = unsigned_field<1>(MEMORIES::stored(row), lane);
                const unsigned at = first[g] + taken;
                const unsigned number = held ? head[at >= CFG::COLUMNS ? at - CFG::COLUMNS : at] : 0;
                taken += held;
                if (lane < LANES) {
                    set_field<CFG::WEIGHT_BITS>(fields, lane, stored_weight<CFG, MEMORIES>(number));
                }
            }
        NEXT_ROW:
            for (unsigned c = 0; c < CFG::COLUMNS; ++c) {
#pragma HLS UNROLL
                const unsigned steps = c >= first[g] ? c - first[g] : c + CFG::COLUMNS - first[g];
                if (steps < taken) {
                    read_row[g][c] = (read_row[g][c] + 1) % ROWS;
                }
            }
            const unsigned next = first[g] + taken;
            first[g] = static_cast<unsigned char>(next >= CFG::COLUMNS ? next - CFG::COLUMNS : next);
            room[g] += taken;
        }
        return fields;
    }
};

}  // namespace fsq
