# The IP cores that the block designs use, as their product guides describe them: properties with their defaults and values, pins, interfaces.
# AXI DMA PG021, Processing System 7 PG082, Zynq UltraScale+ MPSoC Processing System PG201, Processor System Reset PG164, SmartConnect PG247,
# AXI GPIO PG144, Concat (xlconcat). Only what a design could need by mistake or on purpose is here, not every port of a processing system.
#
# property  NAME DEFAULT VALUES     VALUES: a list, or {LOW .. HIGH} of numbers, or * for any text
# pin       NAME DIRECTION KIND WIDTH WHEN NEED
#           KIND clk, rstn (active low), rst, anyrst, irq or data; WIDTH an expression over the properties; WHEN: it exists; NEED: must be connected
# interface NAME MODE PROTOCOL WIDTH CLOCK WHEN NEED
#           PROTOCOL aximm or axis (or another name); WIDTH of tdata in bits, 0 not checked; CLOCK: the pin that clocks it

namespace eval catalogue {
    variable cores [dict create]
    variable current ""

    proc core {vlnv body} {
        variable cores
        variable current
        set current $vlnv
        dict set cores $vlnv {properties {} pins {} interfaces {} segments {}}
        namespace eval ::catalogue $body
    }
    proc property {name default values} {
        variable cores
        variable current
        dict set cores $current properties $name [list $default $values]
    }
    proc pin {name direction kind {width 1} {when 1} {need 0}} {
        variable cores
        variable current
        dict set cores $current pins $name [list $direction $kind $width $when $need]
    }
    proc interface {name mode protocol {width 0} {clock ""} {when 1} {need 0}} {
        variable cores
        variable current
        dict set cores $current interfaces $name [list $mode $protocol $width $clock $when $need]
    }
    proc segment {name} {
        variable cores
        variable current
        dict set cores $current segments $name 1
    }
}

set widths {32 64 128 256 512 1024}
set stream_widths {8 16 32 64 128 256 512 1024}

catalogue::core xilinx.com:ip:axi_dma:7.1 {
    property c_include_sg 1 {0 1}
    property c_sg_include_stscntrl_strm 1 {0 1}
    property c_sg_length_width 14 {8 .. 26}
    property c_micro_dma 0 {0 1}
    property c_enable_multi_channel 0 {0 1}
    property c_addr_width 32 {32 .. 64}
    property c_include_mm2s 1 {0 1}
    property c_include_mm2s_dre 0 {0 1}
    property c_m_axi_mm2s_data_width 32 $::widths
    property c_m_axis_mm2s_tdata_width 32 $::stream_widths
    property c_mm2s_burst_size 16 {2 4 8 16 32 64 128 256}
    property c_include_s2mm 1 {0 1}
    property c_include_s2mm_dre 0 {0 1}
    property c_m_axi_s2mm_data_width 32 $::widths
    property c_s2mm_burst_size 16 {2 4 8 16 32 64 128 256}
    pin s_axi_lite_aclk in clk 1 1 1
    pin m_axi_sg_aclk in clk 1 {$c_include_sg} 1
    pin m_axi_mm2s_aclk in clk 1 {$c_include_mm2s} 1
    pin m_axi_s2mm_aclk in clk 1 {$c_include_s2mm} 1
    pin axi_resetn in rstn 1 1 1
    pin mm2s_prmry_reset_out_n out rstn 1 {$c_include_mm2s}
    pin s2mm_prmry_reset_out_n out rstn 1 {$c_include_s2mm}
    pin mm2s_introut out irq 1 {$c_include_mm2s}
    pin s2mm_introut out irq 1 {$c_include_s2mm}
    pin axi_dma_tstvec out data 32
    interface S_AXI_LITE slave aximm 0 s_axi_lite_aclk 1 1
    interface M_AXI_SG master aximm 0 m_axi_sg_aclk {$c_include_sg} 1
    interface M_AXI_MM2S master aximm 0 m_axi_mm2s_aclk {$c_include_mm2s} 1
    interface M_AXI_S2MM master aximm 0 m_axi_s2mm_aclk {$c_include_s2mm} 1
    interface M_AXIS_MM2S master axis {$c_m_axis_mm2s_tdata_width} m_axi_mm2s_aclk {$c_include_mm2s} 1
    interface S_AXIS_S2MM slave axis 0 m_axi_s2mm_aclk {$c_include_s2mm} 1
    interface M_AXIS_CNTRL master axis 32 m_axi_mm2s_aclk {$c_include_sg && $c_sg_include_stscntrl_strm && $c_include_mm2s}
    interface S_AXIS_STS slave axis 32 m_axi_s2mm_aclk {$c_include_sg && $c_sg_include_stscntrl_strm && $c_include_s2mm} 1
    segment S_AXI_LITE/Reg
}

catalogue::core xilinx.com:ip:axi_gpio:2.0 {
    property C_GPIO_WIDTH 32 {1 .. 32}
    property C_GPIO2_WIDTH 32 {1 .. 32}
    property C_ALL_INPUTS 0 {0 1}
    property C_ALL_OUTPUTS 0 {0 1}
    property C_ALL_INPUTS_2 0 {0 1}
    property C_ALL_OUTPUTS_2 0 {0 1}
    property C_IS_DUAL 0 {0 1}
    property C_INTERRUPT_PRESENT 0 {0 1}
    property C_DOUT_DEFAULT 0x00000000 *
    pin s_axi_aclk in clk 1 1 1
    pin s_axi_aresetn in rstn 1 1 1
    pin gpio_io_i in data {$C_GPIO_WIDTH} {!$C_ALL_OUTPUTS}
    pin gpio_io_o out data {$C_GPIO_WIDTH} {!$C_ALL_INPUTS}
    pin gpio_io_t out data {$C_GPIO_WIDTH} {!$C_ALL_INPUTS && !$C_ALL_OUTPUTS}
    pin gpio2_io_i in data {$C_GPIO2_WIDTH} {$C_IS_DUAL && !$C_ALL_OUTPUTS_2} 1
    pin gpio2_io_o out data {$C_GPIO2_WIDTH} {$C_IS_DUAL && !$C_ALL_INPUTS_2}
    pin gpio2_io_t out data {$C_GPIO2_WIDTH} {$C_IS_DUAL && !$C_ALL_INPUTS_2 && !$C_ALL_OUTPUTS_2}
    pin ip2intc_irpt out irq 1 {$C_INTERRUPT_PRESENT}
    interface S_AXI slave aximm 0 s_axi_aclk 1 1
    interface GPIO master gpio
    interface GPIO2 master gpio 0 {} {$C_IS_DUAL}
    segment S_AXI/Reg
}

catalogue::core xilinx.com:ip:proc_sys_reset:5.0 {
    property C_EXT_RESET_HIGH 0 {0 1}
    property C_NUM_PERP_ARESETN 1 {1 .. 16}
    property C_NUM_INTERCONNECT_ARESETN 1 {1 .. 16}
    pin slowest_sync_clk in clk 1 1 1
    pin ext_reset_in in anyrst 1 1 1
    pin aux_reset_in in anyrst
    pin mb_debug_sys_rst in rst
    pin dcm_locked in data
    pin mb_reset out rst
    pin bus_struct_reset out rst
    pin peripheral_reset out rst
    pin interconnect_aresetn out rstn
    pin peripheral_aresetn out rstn
}

catalogue::core xilinx.com:ip:smartconnect:1.0 {
    property NUM_SI 1 {1 .. 16}
    property NUM_MI 1 {1 .. 16}
    property NUM_CLKS 1 {1 .. 4}
    property HAS_ARESETN 1 {0 1}
    pin aclk in clk 1 1 1
    pin aresetn in rstn 1 {$HAS_ARESETN} 1
    for {set i 1} {$i < 4} {incr i} {
        pin aclk$i in clk 1 "\$NUM_CLKS > $i" 1
    }
    for {set i 0} {$i < 16} {incr i} {
        interface [format S%02d_AXI $i] slave aximm 0 aclk "\$NUM_SI > $i" 1
        interface [format M%02d_AXI $i] master aximm 0 aclk "\$NUM_MI > $i" 1
    }
}

catalogue::core xilinx.com:ip:xlconcat:2.1 {
    property NUM_PORTS 2 {1 .. 128}
    for {set i 0} {$i < 8} {incr i} {
        pin In$i in data 1 "\$NUM_PORTS > $i" 1
    }
    pin dout out data {$NUM_PORTS}
}

catalogue::core xilinx.com:ip:processing_system7:5.5 {
    property PCW_FPGA0_PERIPHERAL_FREQMHZ 50 {1 .. 250}
    property PCW_EN_CLK0_PORT 1 {0 1}
    property PCW_EN_RST0_PORT 1 {0 1}
    property PCW_USE_M_AXI_GP0 1 {0 1}
    property PCW_USE_M_AXI_GP1 0 {0 1}
    for {set i 0} {$i < 4} {incr i} {
        property PCW_USE_S_AXI_HP$i 0 {0 1}
        property PCW_S_AXI_HP${i}_DATA_WIDTH 64 {32 64}
        pin S_AXI_HP${i}_ACLK in clk 1 "\$PCW_USE_S_AXI_HP$i" 1
        interface S_AXI_HP$i slave aximm 0 S_AXI_HP${i}_ACLK "\$PCW_USE_S_AXI_HP$i" 1
    }
    property PCW_USE_FABRIC_INTERRUPT 0 {0 1}
    property PCW_IRQ_F2P_INTR 0 {0 1}
    pin FCLK_CLK0 out clk 1 {$PCW_EN_CLK0_PORT}
    pin FCLK_RESET0_N out rstn 1 {$PCW_EN_RST0_PORT}
    pin M_AXI_GP0_ACLK in clk 1 {$PCW_USE_M_AXI_GP0} 1
    pin M_AXI_GP1_ACLK in clk 1 {$PCW_USE_M_AXI_GP1} 1
    pin IRQ_F2P in irq any {$PCW_USE_FABRIC_INTERRUPT && $PCW_IRQ_F2P_INTR}
    interface M_AXI_GP0 master aximm 0 M_AXI_GP0_ACLK {$PCW_USE_M_AXI_GP0} 1
    interface M_AXI_GP1 master aximm 0 M_AXI_GP1_ACLK {$PCW_USE_M_AXI_GP1} 1
    interface DDR master ddr
    interface FIXED_IO master fixedio
}

catalogue::core xilinx.com:ip:zynq_ultra_ps_e:3.5 {
    property PSU__FPGA_PL0_ENABLE 1 {0 1}
    property PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 100 {1 .. 400}
    property PSU__USE__IRQ0 1 {0 1}
    property PSU__USE__IRQ1 0 {0 1}
    property PSU__USE__M_AXI_GP0 1 {0 1}
    property PSU__USE__M_AXI_GP1 1 {0 1}
    property PSU__USE__M_AXI_GP2 0 {0 1}
    foreach {i port clock} {
        0 HPC0 saxihpc0_fpd_aclk 1 HPC1 saxihpc1_fpd_aclk 2 HP0 saxihp0_fpd_aclk 3 HP1 saxihp1_fpd_aclk 4 HP2 saxihp2_fpd_aclk 5 HP3 saxihp3_fpd_aclk
    } {
        property PSU__USE__S_AXI_GP$i 0 {0 1}
        property PSU__SAXIGP${i}__DATA_WIDTH 128 {32 64 128}
        pin $clock in clk 1 "\$PSU__USE__S_AXI_GP$i" 1
        interface S_AXI_${port}_FPD slave aximm 0 $clock "\$PSU__USE__S_AXI_GP$i" 1
    }
    pin pl_clk0 out clk 1 {$PSU__FPGA_PL0_ENABLE}
    pin pl_resetn0 out rstn
    pin maxihpm0_fpd_aclk in clk 1 {$PSU__USE__M_AXI_GP0} 1
    pin maxihpm1_fpd_aclk in clk 1 {$PSU__USE__M_AXI_GP1} 1
    pin maxihpm0_lpd_aclk in clk 1 {$PSU__USE__M_AXI_GP2} 1
    pin pl_ps_irq0 in irq any {$PSU__USE__IRQ0}
    pin pl_ps_irq1 in irq any {$PSU__USE__IRQ1}
    interface M_AXI_HPM0_FPD master aximm 0 maxihpm0_fpd_aclk {$PSU__USE__M_AXI_GP0} 1
    interface M_AXI_HPM1_FPD master aximm 0 maxihpm1_fpd_aclk {$PSU__USE__M_AXI_GP1} 1
    interface M_AXI_HPM0_LPD master aximm 0 maxihpm0_lpd_aclk {$PSU__USE__M_AXI_GP2} 1
}

# Addresses that a processing system's master reaches in the programmable logic: {low high} by core and interface.
set catalogue::windows {
    processing_system7 {M_AXI_GP0 {0x40000000 0x7FFFFFFF} M_AXI_GP1 {0x80000000 0xBFFFFFFF}}
    zynq_ultra_ps_e {M_AXI_HPM0_FPD {0xA0000000 0xAFFFFFFF} M_AXI_HPM1_FPD {0xB0000000 0xBFFFFFFF} M_AXI_HPM0_LPD {0x80000000 0x9FFFFFFF}}
}
