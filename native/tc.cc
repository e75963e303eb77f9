// Programs on tc hooks: attachTc, detachTc and removeClsactIfEmpty of src/host/native.ts.
#include "tc.h"

#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>

#include "addon.h"
#include "errors.h"
#include "libbpf_log.h"
#include "netlink.h"

namespace baton {

namespace {

bpf_tc_hook Hook(uint32_t interface_index, int attach_point) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(interface_index);
  hook.attach_point = static_cast<bpf_tc_attach_point>(attach_point);
  return hook;
}

bpf_tc_hook Hook(const TcPlace& place) {
  return Hook(place.interface_index, place.egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
}

bpf_tc_opts Options(const TcPlace& place) {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = place.handle;
  options.priority = place.priority;
  return options;
}

// True if the filter, clsact or the interface does not exist. The kernel reports a missing qdisc as
// EINVAL.
bool IsAbsent(int result) {
  return result == -ENOENT || result == -EINVAL || result == -ENODEV;
}

bool HasFilters(uint32_t interface_index, uint32_t hook) {
  bool found = false;
  tcmsg filters{};
  filters.tcm_family = AF_UNSPEC;
  filters.tcm_ifindex = static_cast<int>(interface_index);
  filters.tcm_parent = TC_H_MAKE(TC_H_CLSACT, hook);
  NetlinkRequest<tcmsg> request(RTM_GETTFILTER, NLM_F_DUMP, filters);
  Netlink().Ask(request.Finish(), "RTM_GETTFILTER", [&](const nlmsghdr& message) {
    // A dump also lists the (empty) head of each priority; it has no handle.
    if (message.nlmsg_type == RTM_NEWTFILTER &&
        static_cast<const tcmsg*>(NLMSG_DATA(&message))->tcm_handle != 0) {
      found = true;
    }
  });
  return found;
}

void RemoveClsact(uint32_t interface_index) {
  const LibbpfLog log;
  bpf_tc_hook both = Hook(interface_index, BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int result = bpf_tc_hook_destroy(&both);
  if (result != 0 && !IsAbsent(result)) log.Throw(result, "bpf_tc_hook_destroy");
}

}  // namespace

TcPlace TcPlaceArguments(const Napi::CallbackInfo& info, size_t first) {
  const std::string hook = StringArgument(info, first + 1);
  if (hook != "ingress" && hook != "egress")
    ThrowArgument(info.Env(), "the hook must be ingress or egress, not " + hook);
  return {NumberArgument(info, first), hook == "egress", NumberArgument(info, first + 2),
          NumberArgument(info, first + 3)};
}

void AttachToTc(int program_fd, const TcPlace& place) {
  const LibbpfLog log;
  bpf_tc_hook hook = Hook(place);
  const int created = bpf_tc_hook_create(&hook);
  if (created != 0 && created != -EEXIST) log.Throw(created, "bpf_tc_hook_create");
  bpf_tc_opts options = Options(place);
  options.prog_fd = program_fd;
  options.flags = BPF_TC_F_REPLACE;
  const int attached = bpf_tc_attach(&hook, &options);
  if (attached != 0) log.Throw(attached, "bpf_tc_attach");
}

Napi::Value DetachTc(const Napi::CallbackInfo& info) {
  const TcPlace place = TcPlaceArguments(info, 0);
  const bool detached = Guard(info.Env(), [&] {
    const LibbpfLog log;
    const bpf_tc_hook hook = Hook(place);
    bpf_tc_opts queried = Options(place);
    const int found = bpf_tc_query(&hook, &queried);
    if (IsAbsent(found)) return false;
    if (found != 0) log.Throw(found, "bpf_tc_query");
    const bpf_tc_opts options = Options(place);
    const int result = bpf_tc_detach(&hook, &options);
    if (result != 0 && !IsAbsent(result)) log.Throw(result, "bpf_tc_detach");
    return result == 0;
  });
  return Napi::Boolean::New(info.Env(), detached);
}

Napi::Value RemoveClsactIfEmpty(const Napi::CallbackInfo& info) {
  const uint32_t interface_index = NumberArgument(info, 0);
  Guard(info.Env(), [&] {
    try {
      if (HasFilters(interface_index, TC_H_MIN_INGRESS) ||
          HasFilters(interface_index, TC_H_MIN_EGRESS))
        return;
    } catch (const SystemError& failure) {
      if (IsAbsent(-failure.error)) return;
      throw;
    }
    RemoveClsact(interface_index);
  });
  return info.Env().Undefined();
}

}  // namespace baton
