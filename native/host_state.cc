// Reads addresses and tc filters of this machine: ipv4Addresses and tcFilters of
// src/host/native.ts.
#include <bpf/bpf.h>
#include <linux/if_addr.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <net/if.h>

#include <string>

#include "addon.h"
#include "descriptor.h"
#include "netlink.h"

namespace baton {

namespace {

struct Filter {
  const char* hook;
  uint32_t priority;
  uint32_t handle;
  // Empty if this is no BPF program, or one without a name.
  std::string program;
  // 0 if this is no BPF program.
  uint32_t program_id = 0;
};

void ReadAddress(const nlmsghdr& message, uint8_t family, std::vector<InterfaceAddress>& into) {
  if (message.nlmsg_type != RTM_NEWADDR) return;
  const auto* entry = static_cast<const ifaddrmsg*>(NLMSG_DATA(&message));
  if (family != AF_UNSPEC && entry->ifa_family != family) return;
  // Only IPv6 has both.
  if (entry->ifa_family == AF_INET6 &&
      (entry->ifa_scope == RT_SCOPE_LINK || (entry->ifa_flags & IFA_F_TEMPORARY) != 0))
    return;
  const auto* first = IFA_RTA(entry);
  const int length = static_cast<int>(IFA_PAYLOAD(&message));
  // On a point-to-point link, IFA_ADDRESS is the peer's address.
  const rtattr* attribute = FindAttribute(first, length, IFA_LOCAL);
  if (attribute == nullptr) attribute = FindAttribute(first, length, IFA_ADDRESS);
  IpAddress address;
  if (!ReadIpAddress(attribute, entry->ifa_family, address)) return;
  const rtattr* label = FindAttribute(first, length, IFA_LABEL);
  into.push_back({entry->ifa_index, address, entry->ifa_prefixlen,
                  label == nullptr ? "" : static_cast<const char*>(RTA_DATA(label))});
}

// The name of the program with this id. Empty if the program is gone, or needs CAP_SYS_ADMIN to be
// seen.
std::string ProgramName(uint32_t id) {
  const Fd program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t length = sizeof info;
  if (!program.valid() || bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) return "";
  return info.name;
}

// The first part of a filter's name. libbpf names a filter PROGRAM:[ID], and `tc` names it
// OBJECT:[SECTION].
std::string FilterName(const rtattr* name) {
  if (name == nullptr) return "";
  const auto* text = static_cast<const char*>(RTA_DATA(name));
  const std::string whole(text, ::strnlen(text, RTA_PAYLOAD(name)));
  return whole.substr(0, whole.find(":["));
}

const rtattr* TcAttribute(const nlmsghdr& message, uint16_t type) {
  const auto* entry = static_cast<const tcmsg*>(NLMSG_DATA(&message));
  return FindAttribute(TCA_RTA(entry), static_cast<int>(TCA_PAYLOAD(&message)), type);
}

void ReadFilter(const nlmsghdr& message, const char* hook, std::vector<Filter>& into) {
  if (message.nlmsg_type != RTM_NEWTFILTER) return;
  const auto* entry = static_cast<const tcmsg*>(NLMSG_DATA(&message));
  // A dump also lists the (empty) head of each priority; it has no handle.
  if (entry->tcm_handle == 0) return;
  Filter filter{hook, TC_H_MAJ(entry->tcm_info) >> 16, entry->tcm_handle, "", 0};
  const rtattr* options = TcAttribute(message, TCA_OPTIONS);
  const rtattr* kind = TcAttribute(message, TCA_KIND);
  if (options != nullptr && kind != nullptr &&
      std::string(static_cast<const char*>(RTA_DATA(kind))) == "bpf") {
    const auto* first = static_cast<const rtattr*>(RTA_DATA(options));
    const int length = static_cast<int>(RTA_PAYLOAD(options));
    const rtattr* id = FindAttribute(first, length, TCA_BPF_ID);
    uint32_t number = 0;
    if (id != nullptr && RTA_PAYLOAD(id) == sizeof number)
      std::memcpy(&number, RTA_DATA(id), sizeof number);
    filter.program_id = number;
    if (number != 0) filter.program = ProgramName(number);
    if (filter.program.empty())
      filter.program = FilterName(FindAttribute(first, length, TCA_BPF_NAME));
  }
  into.push_back(std::move(filter));
}

tcmsg About(uint32_t interface_index) {
  tcmsg about{};
  about.tcm_family = AF_UNSPEC;
  about.tcm_ifindex = static_cast<int>(interface_index);
  return about;
}

bool HasClsact(uint32_t interface_index) {
  bool found = false;
  NetlinkRequest<tcmsg> ask(RTM_GETQDISC, NLM_F_DUMP, About(interface_index));
  Netlink().Ask(ask.Finish(), "RTM_GETQDISC", [&](const nlmsghdr& message) {
    if (message.nlmsg_type != RTM_NEWQDISC) return;
    // The kernel lists the qdiscs of all interfaces. The ingress qdisc has the same parent as
    // clsact, but other hooks.
    const auto* entry = static_cast<const tcmsg*>(NLMSG_DATA(&message));
    const rtattr* kind = TcAttribute(message, TCA_KIND);
    if (entry->tcm_ifindex == static_cast<int>(interface_index) && kind != nullptr &&
        std::string(static_cast<const char*>(RTA_DATA(kind))) == "clsact") {
      found = true;
    }
  });
  return found;
}

std::vector<Filter> ReadFilters(uint32_t interface_index) {
  std::vector<Filter> result;
  for (const auto& [hook, minor] :
       {std::pair{"ingress", TC_H_MIN_INGRESS}, {"egress", TC_H_MIN_EGRESS}}) {
    const size_t before = result.size();
    tcmsg about = About(interface_index);
    about.tcm_parent = TC_H_MAKE(TC_H_CLSACT, minor);
    NetlinkRequest<tcmsg> ask(RTM_GETTFILTER, NLM_F_DUMP, about);
    Netlink().Ask(
        ask.Finish(), "RTM_GETTFILTER",
        [&, hook = hook](const nlmsghdr& message) { ReadFilter(message, hook, result); },
        [&] { result.resize(before); });
  }
  return result;
}

}  // namespace

std::vector<InterfaceAddress> ReadAddresses(uint8_t family) {
  std::vector<InterfaceAddress> result;
  ifaddrmsg any{};
  any.ifa_family = family;
  NetlinkRequest<ifaddrmsg> ask(RTM_GETADDR, NLM_F_DUMP, any);
  Netlink().Ask(
      ask.Finish(), "RTM_GETADDR",
      [&](const nlmsghdr& message) { ReadAddress(message, family, result); },
      [&] { result.clear(); });
  return result;
}

Napi::Value Ipv4Addresses(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<InterfaceAddress> addresses =
      Guard(env, [] { return ReadAddresses(AF_INET); });
  Napi::Array result = Napi::Array::New(env);
  for (const InterfaceAddress& from : addresses) {
    char name[IF_NAMESIZE];
    // If the interface is gone, so is its address.
    if (::if_indextoname(from.interface_index, name) == nullptr) continue;
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("interface", name);
    entry.Set("address", ToValue(env, from.address));
    entry.Set("prefix", static_cast<uint32_t>(from.prefix));
    result.Set(result.Length(), entry);
  }
  return result;
}

Napi::Value TcFilters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t interface_index = NumberArgument(info, 0);
  bool clsact = false;
  const std::vector<Filter> filters = Guard(env, [&]() -> std::vector<Filter> {
    clsact = HasClsact(interface_index);
    return clsact ? ReadFilters(interface_index) : std::vector<Filter>();
  });
  if (!clsact) return env.Undefined();
  Napi::Array result = Napi::Array::New(env, filters.size());
  for (uint32_t i = 0; i < filters.size(); i++) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("hook", filters[i].hook);
    entry.Set("priority", filters[i].priority);
    entry.Set("handle", filters[i].handle);
    entry.Set("program", filters[i].program.empty()
                             ? env.Undefined()
                             : Napi::Value(Napi::String::New(env, filters[i].program)));
    entry.Set("programId", filters[i].program_id == 0
                               ? env.Undefined()
                               : Napi::Value(Napi::Number::New(env, filters[i].program_id)));
    result.Set(i, entry);
  }
  return result;
}

}  // namespace baton
