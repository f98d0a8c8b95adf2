// Takes weights from a byte-wide AXI4-Stream and writes them over the load bus; keeps frames out until a whole, right image has come.
//
// Image (one packet, tlast on its last byte; numbers little endian):
//   16 bytes   HEADER: "FSQ1", 8 bytes that stand for the shapes of the memories, 4 bytes number of payload bytes
//   payload    every memory of TABLE in turn, row by row, a row in columns of 9 bytes (72 bits), the last column cut to the bytes it has
//   4 bytes    CRC-32 (IEEE 802.3, as zlib's crc32) of everything before
//
// Parameters
//   MEMORIES   memories to fill, 1 or more
//   TABLE      48 bits a memory, the first one lowest: {memory[11:0], last row[19:0], last column[11:0], bytes of the last column[3:0]}
//   HEADER     the header that an image of this machine has, first byte lowest
//
// Ports
//   clk, rst        clock; synchronous reset, active high: state empty, `hold` high until the next good load
//   s_load_axis_*   the image, a byte a beat
//   idle            frames are held and none is in work
//   hold            asks that frames be held: no weights, or an image whose header is right waits for the frames in work to leave
//   load_bus        {write, memory[9:0], row[19:0], column[11:0], data[71:0]} to every fsq_parameter_memory with LOADED = 1
//   status          bit 7: weights are good, frames pass. Bits 3:0, the state, kept until the next load begins or reset:
//                     0 empty      nothing came since reset         8 bad magic   no image at all
//                     1 header     the 16 bytes come                9 shape       an image for a machine of another shape
//                     2 waiting    frames in work leave            10 length      another payload length than this machine's
//                     3 writing    payload and CRC come            11 short       tlast came before the last byte
//                     4 good       the last image is in use        12 long        no tlast on the last byte
//                                                                  13 CRC         payload damaged on its way
//
// States of the control
//   HEADER   between images and during the header: each byte is compared as it comes. A wrong one ends the load before anything is written, so
//            weights that were good stay in use.
//   WAIT     tready low; the frames in work leave. From here on the old weights are gone until the image proves good.
//   FETCH    tready low for one cycle; the table's entry of the next memory is read.
//   WRITE    payload: a byte a cycle, a write a column.
//   CRC      the four last bytes; the register then holds a constant when all were right.
//   DROP     after an error: bytes are taken and forgotten until tlast.
// tlast ends a load in every state, so an image that is cut leaves the loader ready for the next one. A sender that pauses is waited for.
//
// Throughput a byte a cycle. Written rows are in place before `hold` falls.
module fsq_loader #(
    parameter MEMORIES = 1,
    parameter [48*MEMORIES-1:0] TABLE = 48'd0,
    parameter [127:0] HEADER = 128'd0
) (
    input  wire         clk,
    input  wire         rst,
    input  wire [7:0]   s_load_axis_tdata,
    input  wire         s_load_axis_tvalid,
    output wire         s_load_axis_tready,
    input  wire         s_load_axis_tlast,
    input  wire         idle,
    output wire         hold,
    output wire [114:0] load_bus,
    output wire [7:0]   status
);
    localparam INDEX_BITS = (MEMORIES > 1) ? $clog2(MEMORIES) : 1;
    localparam [2:0] HEAD = 3'd0, WAITING = 3'd1, FETCH = 3'd2, WRITE = 3'd3, CHECK = 3'd4, DROP = 3'd5;
    localparam [3:0] IS_EMPTY = 4'd0, IS_HEADER = 4'd1, IS_WAITING = 4'd2, IS_WRITING = 4'd3, IS_GOOD = 4'd4;
    localparam [3:0] BAD_MAGIC = 4'd8, BAD_SHAPE = 4'd9, BAD_LENGTH = 4'd10, SHORT = 4'd11, LONG = 4'd12, BAD_CRC = 4'd13;
    // What the CRC register (before the final inversion) holds after data and their CRC.
    localparam [31:0] CRC_RIGHT = 32'hdebb20e3;

    initial begin : check_parameters
        if (MEMORIES < 1 || MEMORIES > 1024) $fatal(1, "fsq_loader: MEMORIES=%0d, 1 to 1024 was expected", MEMORIES);
        if (HEADER[31:0] != 32'h31515346) $fatal(1, "fsq_loader: HEADER begins with %08x, the bytes of FSQ1 were expected", HEADER[31:0]);
    end

    // CRC-32, reflected polynomial, one byte.
    function automatic [31:0] crc_step(input [31:0] crc, input [7:0] data);
        integer i;
        reg [31:0] c;
        begin
            c = crc ^ {24'd0, data};
            for (i = 0; i < 8; i = i + 1) c = c[0] ? ((c >> 1) ^ 32'hedb88320) : (c >> 1);
            crc_step = c;
        end
    endfunction

    reg [2:0]            phase_reg;
    reg [3:0]            state_reg;
    reg                  good_reg;
    reg [3:0]            count_reg;    // bytes of the header, of the CRC
    reg [31:0]           crc_reg;
    reg [INDEX_BITS-1:0] index_reg;
    reg [9:0]            memory_reg;   // the memory being filled, from TABLE
    reg [19:0]           last_row_reg;
    reg [11:0]           last_column_reg;
    reg [3:0]            last_bytes_reg;
    reg [19:0]           row_reg;
    reg [11:0]           column_reg;
    reg [3:0]            byte_reg;
    reg                  write_reg;
    reg [19:0]           write_row_reg;
    reg [11:0]           write_column_reg;
    reg [71:0]           data_reg;

    wire [47:0] entry = TABLE[index_reg*48 +: 48];
    wire [7:0]  expected = HEADER[count_reg*8 +: 8];
    wire        accept = s_load_axis_tvalid && s_load_axis_tready;
    wire        starts = phase_reg == HEAD && count_reg == 4'd0;
    wire [31:0] crc_next = crc_step(starts ? 32'hffffffff : crc_reg, s_load_axis_tdata);
    wire        at_column_end = column_reg == last_column_reg;
    wire        at_byte_end = byte_reg == (at_column_end ? last_bytes_reg - 4'd1 : 4'd8);
    wire        at_row_end = row_reg == last_row_reg;
    wire        memory_ends = at_byte_end && at_column_end && at_row_end;

    assign s_load_axis_tready = phase_reg != WAITING && phase_reg != FETCH;
    assign hold = !good_reg || phase_reg == WAITING;
    assign load_bus = {write_reg, memory_reg, write_row_reg, write_column_reg, data_reg};
    assign status = {good_reg, 3'd0, state_reg};

    always_ff @(posedge clk) begin : control
        if (rst) begin
            phase_reg <= HEAD;
            state_reg <= IS_EMPTY;
            good_reg <= 1'b0;
            count_reg <= 4'd0;
        end else begin
            case (phase_reg)
                HEAD: if (accept) begin
                    state_reg <= IS_HEADER;
                    count_reg <= count_reg + 4'd1;
                    if (s_load_axis_tdata != expected || s_load_axis_tlast) begin
                        if (s_load_axis_tdata == expected) state_reg <= SHORT;
                        else if (count_reg < 4'd4) state_reg <= BAD_MAGIC;
                        else if (count_reg < 4'd12) state_reg <= BAD_SHAPE;
                        else state_reg <= BAD_LENGTH;
                        count_reg <= 4'd0;
                        phase_reg <= s_load_axis_tlast ? HEAD : DROP;
                    end else if (count_reg == 4'd15) begin
                        state_reg <= IS_WAITING;
                        count_reg <= 4'd0;
                        phase_reg <= WAITING;
                    end
                end
                WAITING: if (idle) begin
                    state_reg <= IS_WRITING;
                    good_reg <= 1'b0;
                    phase_reg <= FETCH;
                end
                FETCH: phase_reg <= WRITE;
                WRITE: if (accept) begin
                    if (s_load_axis_tlast) begin
                        state_reg <= SHORT;
                        phase_reg <= HEAD;
                    end else if (memory_ends) begin
                        phase_reg <= (index_reg == MEMORIES - 1) ? CHECK : FETCH;
                    end
                end
                CHECK: if (accept) begin
                    count_reg <= count_reg + 4'd1;
                    if (s_load_axis_tlast || count_reg == 4'd3) begin
                        count_reg <= 4'd0;
                        phase_reg <= s_load_axis_tlast ? HEAD : DROP;
                        if (count_reg != 4'd3) state_reg <= SHORT;
                        else if (!s_load_axis_tlast) state_reg <= LONG;
                        else if (crc_next != CRC_RIGHT) state_reg <= BAD_CRC;
                        else begin
                            state_reg <= IS_GOOD;
                            good_reg <= 1'b1;
                        end
                    end
                end
                default: if (accept && s_load_axis_tlast) phase_reg <= HEAD;  // DROP
            endcase
        end
    end

    // Which byte of which memory comes next.
    always_ff @(posedge clk) begin : place
        if (phase_reg == WAITING) index_reg <= {INDEX_BITS{1'b0}};
        if (phase_reg == FETCH) begin
            memory_reg <= entry[45:36];
            last_row_reg <= entry[35:16];
            last_column_reg <= entry[15:4];
            last_bytes_reg <= entry[3:0];
            row_reg <= 20'd0;
            column_reg <= 12'd0;
            byte_reg <= 4'd0;
        end
        if (phase_reg == WRITE && accept) begin
            byte_reg <= at_byte_end ? 4'd0 : byte_reg + 4'd1;
            if (at_byte_end) column_reg <= at_column_end ? 12'd0 : column_reg + 12'd1;
            if (at_byte_end && at_column_end) row_reg <= row_reg + 20'd1;
            if (memory_ends) index_reg <= index_reg + 1'b1;
        end
    end

    // A column is written the cycle after its last byte. What an earlier column left in the high bytes of a cut one is not stored.
    integer b;
    always_ff @(posedge clk) begin : column
        if (rst) write_reg <= 1'b0;
        else write_reg <= phase_reg == WRITE && accept && at_byte_end;
        write_row_reg <= row_reg;
        write_column_reg <= column_reg;
        for (b = 0; b < 9; b = b + 1) if (accept && byte_reg == b) data_reg[b*8 +: 8] <= s_load_axis_tdata;
        if (accept) crc_reg <= crc_next;
    end
endmodule
