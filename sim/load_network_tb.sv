// Top of sim/bench_load_network.py: the machine's ports, and only these, open to the bench on Verilator (all signals open make it build for minutes).
module load_network_tb #(
    parameter IN_BITS = 24,
    parameter OUT_BITS = 32
) (
    input  wire                ap_clk /*verilator public_flat_rw*/,
    input  wire                ap_rst_n /*verilator public_flat_rw*/,
    input  wire [IN_BITS-1:0]  s_axis_tdata /*verilator public_flat_rw*/,
    input  wire                s_axis_tvalid /*verilator public_flat_rw*/,
    output wire                s_axis_tready /*verilator public_flat_rd*/,
    input  wire                s_axis_tlast /*verilator public_flat_rw*/,
    output wire [OUT_BITS-1:0] m_axis_tdata /*verilator public_flat_rd*/,
    output wire                m_axis_tvalid /*verilator public_flat_rd*/,
    input  wire                m_axis_tready /*verilator public_flat_rw*/,
    output wire                m_axis_tlast /*verilator public_flat_rd*/,
    output wire                frame_error /*verilator public_flat_rd*/,
    input  wire [7:0]          s_load_axis_tdata /*verilator public_flat_rw*/,
    input  wire                s_load_axis_tvalid /*verilator public_flat_rw*/,
    output wire                s_load_axis_tready /*verilator public_flat_rd*/,
    input  wire                s_load_axis_tlast /*verilator public_flat_rw*/,
    output wire [7:0]          load_status /*verilator public_flat_rd*/
);
    squeezenet machine (.*);
endmodule
