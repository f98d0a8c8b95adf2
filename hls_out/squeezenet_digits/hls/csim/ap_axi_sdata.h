// ap_axiu for a C simulation without a Vitis installation: the AXI4-Stream side channels as plain fields. A real installation's header replaces
// this one.
#pragma once

#include <ap_int.h>

template <int DATA_BITS, int USER_BITS, int ID_BITS, int DEST_BITS>
struct ap_axiu {
    ap_uint<DATA_BITS> data;
    ap_uint<(DATA_BITS + 7) / 8> keep;
    ap_uint<(DATA_BITS + 7) / 8> strb;
    ap_uint<1> last;
    static_assert(USER_BITS == 0 && ID_BITS == 0 && DEST_BITS == 0, "the kernels use no TUSER, TID or TDEST");
};
