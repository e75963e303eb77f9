{
  "targets": [
    {
      "target_name": "baton",
      "sources": [
        "native/addon.cc",
        "native/bpf.cc",
        "native/ethtool.cc",
        "native/fd_watch.cc",
        "native/libbpf_log.cc",
        "native/map.cc",
        "native/map_handle.cc",
        "native/mapping.cc",
        "native/neighbour_events.cc",
        "native/netlink.cc",
        "native/host_state.cc",
        "native/packet_ring.cc",
        "native/packet_ring_object.cc",
        "native/peer.cc",
        "native/perf_buffers.cc",
        "native/raw_socket.cc",
        "native/ringbuf.cc",
        "native/scheduling.cc",
        "native/tc.cc",
        "native/test_run.cc",
        "native/transmit_ring.cc",
        "native/xdp.cc",
        "native/xdp_object.cc",
        "native/xdp_pool.cc",
        "native/xdp_ring.cc"
      ],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17"],
      "cflags_cc": [
        "-std=c++17",
        "-fexceptions",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-isystem",
        "<!(node -p \"require('path').dirname(require.resolve('node-addon-api'))\")"
      ],
      "libraries": ["-lbpf", "-lelf"]
    }
  ]
}
