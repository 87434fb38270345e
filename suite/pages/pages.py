"""Every page, in the order that they are listed in."""

from suite.pages import (
    bench_plots,
    capability_tables,
    error_tables,
    fault_tables,
    graph_tables,
    hardware_tables,
    kernel_tables,
    memory_tables,
    paper_tables,
    payback_tables,
    scaling_tables,
    text_tables,
    threads_tables,
    verify_tables,
)

PAGES = tuple(
    module.PAGE
    for module in (
        bench_plots,
        verify_tables,
        fault_tables,
        error_tables,
        capability_tables,
        kernel_tables,
        graph_tables,
        hardware_tables,
        paper_tables,
        memory_tables,
        scaling_tables,
        threads_tables,
        payback_tables,
        text_tables,
    )
)
