// Puts the results of an engine that computes P_PX pixels at once into stream order: one pixel after the other.
//
// Parameters
//   WIDTH     bits of a beat of one pixel: P_OC * OUT_BITS
//   OC_FOLDS  beats a pixel: ceil(OC / P_OC)
//   P_PX      pixels a group
//   PIXELS    pixels a frame, P_PX or more; what a frame's last group holds beyond them is dropped
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only: groups held are dropped
//   s_axis_*   OC_FOLDS beats a group, pixel p at bit p*WIDTH; tready comes from a register
//   m_axis_*   OC_FOLDS beats a pixel, pixel by pixel; tvalid comes from a register, tdata from registers through the choice of the pixel
//
// Throughput one output beat a cycle. Two groups lie in ping-pong, so an engine that takes P_PX * OC_FOLDS cycles or more a group is never held up
// by it. Latency two cycles: a group's first pixel leaves while the group still comes in. With P_PX = 1 it is wires, without logic or latency.
module fsq_pixel_order #(
    parameter WIDTH = 8,
    parameter OC_FOLDS = 2,
    parameter P_PX = 1,
    parameter PIXELS = P_PX
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [P_PX*WIDTH-1:0] s_axis_tdata,
    input  wire                  s_axis_tvalid,
    output wire                  s_axis_tready,
    output wire [WIDTH-1:0]      m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready
);
    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_pixel_order: WIDTH=%0d, 1 or more was expected", WIDTH);
        if (OC_FOLDS < 1) $fatal(1, "fsq_pixel_order: OC_FOLDS=%0d, 1 or more was expected", OC_FOLDS);
        if (P_PX < 1 || PIXELS < P_PX) $fatal(1, "fsq_pixel_order: P_PX=%0d PIXELS=%0d, P_PX from 1 to PIXELS was expected", P_PX, PIXELS);
    end

    generate
        if (P_PX == 1) begin : gen_wires
            assign m_axis_tdata = s_axis_tdata;
            assign m_axis_tvalid = s_axis_tvalid;
            assign s_axis_tready = m_axis_tready;
        end else begin : gen_order
            localparam GROUPS = (PIXELS + P_PX - 1) / P_PX;
            localparam SHORT = PIXELS - (GROUPS - 1) * P_PX;  // pixels of a frame's last group
            localparam FOLD_BITS = (OC_FOLDS > 1) ? $clog2(OC_FOLDS) : 1;
            localparam PX_BITS = $clog2(P_PX);
            localparam GROUP_BITS = (GROUPS > 1) ? $clog2(GROUPS) : 1;
            localparam ADDR_BITS = $clog2(2 * OC_FOLDS);

            reg [FOLD_BITS-1:0]   write_fold_reg;
            reg                   write_slot_reg;
            reg [FOLD_BITS-1:0]   read_fold_reg;
            reg                   read_slot_reg;
            reg [PX_BITS-1:0]     read_px_reg;
            reg [GROUP_BITS-1:0]  group_reg;
            reg [1:0]             full_reg;  // whole groups held, 0 to 2
            reg                   out_valid_reg;
            wire [P_PX*WIDTH-1:0] out_word;
            reg [PX_BITS-1:0]     out_px_reg;

            wire push = s_axis_tvalid && s_axis_tready;
            wire filled = push && write_fold_reg == OC_FOLDS - 1;
            wire advance = !out_valid_reg || m_axis_tready;
            wire present = full_reg != 2'd0 || (read_px_reg == 0 && read_fold_reg < write_fold_reg);
            wire read = advance && present;
            wire last_group = SHORT != P_PX && group_reg == GROUPS - 1;
            wire fold_ends = read_fold_reg == OC_FOLDS - 1;
            wire px_ends = read_px_reg == (last_group ? SHORT - 1 : P_PX - 1);
            wire freed = read && fold_ends && px_ends;

            // Slot 1 lies behind slot 0.
            wire [ADDR_BITS-1:0] write_addr = (write_slot_reg ? OC_FOLDS : 0) + write_fold_reg;
            wire [ADDR_BITS-1:0] read_addr = (read_slot_reg ? OC_FOLDS : 0) + read_fold_reg;

            assign s_axis_tready = full_reg != 2'd2;
            assign m_axis_tvalid = out_valid_reg;
            assign m_axis_tdata = out_word[out_px_reg*WIDTH +: WIDTH];

            always_ff @(posedge clk) begin : control
                if (rst) begin
                    write_fold_reg <= {FOLD_BITS{1'b0}};
                    write_slot_reg <= 1'b0;
                    read_fold_reg <= {FOLD_BITS{1'b0}};
                    read_slot_reg <= 1'b0;
                    read_px_reg <= {PX_BITS{1'b0}};
                    group_reg <= {GROUP_BITS{1'b0}};
                    full_reg <= 2'd0;
                    out_valid_reg <= 1'b0;
                end else begin
                    full_reg <= full_reg + {1'b0, filled} - {1'b0, freed};
                    if (push) write_fold_reg <= filled ? {FOLD_BITS{1'b0}} : write_fold_reg + 1'b1;
                    if (filled) write_slot_reg <= !write_slot_reg;
                    if (advance) out_valid_reg <= present;
                    if (read) read_fold_reg <= fold_ends ? {FOLD_BITS{1'b0}} : read_fold_reg + 1'b1;
                    if (read && fold_ends) read_px_reg <= px_ends ? {PX_BITS{1'b0}} : read_px_reg + 1'b1;
                    if (freed) begin
                        read_slot_reg <= !read_slot_reg;
                        if (SHORT != P_PX) group_reg <= (group_reg == GROUPS - 1) ? {GROUP_BITS{1'b0}} : group_reg + 1'b1;
                    end
                end
            end

            fsq_memory #(.WIDTH(P_PX*WIDTH), .DEPTH(2*OC_FOLDS)) groups (
                .clk(clk), .write(push), .write_addr(write_addr), .write_data(s_axis_tdata), .enable(read), .read_addr(read_addr), .word(out_word)
            );
            always_ff @(posedge clk) begin : fetch
                if (read) out_px_reg <= read_px_reg;
            end
        end
    endgenerate
endmodule
