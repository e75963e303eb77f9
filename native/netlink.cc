// Interfaces and neighbours: interfaceInfo, neighbours, resolveNeighbour and forgetNeighbour of
// src/host/native.ts.
#include "netlink.h"

#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <sys/socket.h>

#include <string>

#include "addon.h"

namespace baton {

namespace {

constexpr size_t kMacBytes = 6;
constexpr size_t kAnswerBytes = 65536;
constexpr int kDumpAttempts = 4;

// States in which the kernel uses the address (NUD_VALID in the kernel's sources).
constexpr uint16_t kUsableStates =
    NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;

struct Interface {
  bool found = false;
  uint32_t flags = 0;
  uint32_t mtu = 0;
  uint8_t mac[kMacBytes] = {};
  std::vector<InterfaceAddress> addresses;
};

struct NeighbourEntry {
  IpAddress address;
  bool usable = false;
  uint8_t mac[kMacBytes] = {};
  uint16_t state = 0;
};

void ReadLink(const nlmsghdr& message, Interface& into) {
  if (message.nlmsg_type != RTM_NEWLINK) return;
  const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
  const auto* first = IFLA_RTA(link);
  const int length = static_cast<int>(IFLA_PAYLOAD(&message));
  into.found = true;
  into.flags = link->ifi_flags;
  if (const rtattr* mtu = FindAttribute(first, length, IFLA_MTU))
    std::memcpy(&into.mtu, RTA_DATA(mtu), sizeof into.mtu);
  const rtattr* mac = FindAttribute(first, length, IFLA_ADDRESS);
  if (mac != nullptr && RTA_PAYLOAD(mac) == kMacBytes)
    std::memcpy(into.mac, RTA_DATA(mac), kMacBytes);
}

Interface ReadInterface(uint32_t index) {
  Netlink netlink;
  Interface result;
  ifinfomsg link{};
  link.ifi_family = AF_UNSPEC;
  link.ifi_index = static_cast<int>(index);
  NetlinkRequest<ifinfomsg> ask_link(RTM_GETLINK, 0, link);
  try {
    netlink.Ask(ask_link.Finish(), "RTM_GETLINK",
                [&](const nlmsghdr& message) { ReadLink(message, result); });
  } catch (const SystemError& failure) {
    if (failure.error != ENODEV) throw;
    return result;  // the interface was removed after the look-up of its index
  }
  for (const InterfaceAddress& address : ReadAddresses(AF_UNSPEC)) {
    if (address.interface_index == index) result.addresses.push_back(address);
  }
  return result;
}

void ReadNeighbour(const nlmsghdr& message, uint32_t index, std::vector<NeighbourEntry>& into) {
  if (message.nlmsg_type != RTM_NEWNEIGH) return;
  const auto* entry = static_cast<const ndmsg*>(NLMSG_DATA(&message));
  if (entry->ndm_ifindex != static_cast<int>(index)) return;
  const auto* first = reinterpret_cast<const rtattr*>(reinterpret_cast<const char*>(entry) +
                                                      NLMSG_ALIGN(sizeof *entry));
  const int length = static_cast<int>(NLMSG_PAYLOAD(&message, sizeof *entry));
  NeighbourEntry result;
  if (!ReadIpAddress(FindAttribute(first, length, NDA_DST), entry->ndm_family, result.address))
    return;
  result.state = entry->ndm_state;
  const rtattr* mac = FindAttribute(first, length, NDA_LLADDR);
  if (mac != nullptr && RTA_PAYLOAD(mac) == kMacBytes && (entry->ndm_state & kUsableStates) != 0) {
    result.usable = true;
    std::memcpy(result.mac, RTA_DATA(mac), kMacBytes);
  }
  into.push_back(std::move(result));
}

std::vector<NeighbourEntry> ReadNeighbours(uint32_t index) {
  Netlink netlink;
  std::vector<NeighbourEntry> result;
  ndmsg any{};
  any.ndm_family = AF_UNSPEC;
  NetlinkRequest<ndmsg> ask(RTM_GETNEIGH, NLM_F_DUMP, any);
  netlink.Ask(
      ask.Finish(), "RTM_GETNEIGH",
      [&](const nlmsghdr& message) { ReadNeighbour(message, index, result); },
      [&] { result.clear(); });
  return result;
}

// Sends a request about the neighbour of an interface (argument 0) with an address (argument 1).
void AskAboutNeighbour(const Napi::CallbackInfo& info, uint16_t type, const char* name,
                       uint8_t flags) {
  const Napi::Env env = info.Env();
  const uint32_t index = NumberArgument(info, 0);
  const IpAddress address = AddressArgument(info, 1);
  Guard(env, [&] {
    ndmsg neighbour{};
    neighbour.ndm_family = static_cast<uint8_t>(address.family);
    neighbour.ndm_ifindex = static_cast<int>(index);
    neighbour.ndm_flags = flags;
    NetlinkRequest<ndmsg> request(type, type == RTM_NEWNEIGH ? NLM_F_CREATE : 0, neighbour);
    request.Add(NDA_DST, address.bytes, address.size());
    Netlink().Ask(request.Finish(), name, [](const nlmsghdr&) {});
  });
}

Napi::Uint8Array ToBytes(Napi::Env env, const uint8_t* from, size_t length) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, length);
  std::memcpy(bytes.Data(), from, length);
  return bytes;
}

}  // namespace

bool ReadIpAddress(const rtattr* attribute, uint8_t family, IpAddress& into) {
  if (attribute == nullptr || (family != AF_INET && family != AF_INET6)) return false;
  into.family = family;
  if (RTA_PAYLOAD(attribute) != into.size()) return false;
  std::memcpy(into.bytes, RTA_DATA(attribute), into.size());
  return true;
}

const rtattr* FindAttribute(const rtattr* first, int length, uint16_t type) {
  for (const rtattr* at = first; RTA_OK(at, length); at = RTA_NEXT(at, length)) {
    if ((at->rta_type & NLA_TYPE_MASK) == type) return at;
  }
  return nullptr;
}

Netlink::Netlink() : socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {
  if (!socket_.valid()) ThrowSystem("socket", "NETLINK_ROUTE");
}

void Netlink::Ask(nlmsghdr* request, const char* name, const Visit& visit,
                  const std::function<void()>& restart) {
  request->nlmsg_flags |= NLM_F_ACK;
  for (int attempt = 0; attempt < kDumpAttempts; attempt++) {
    if (attempt != 0 && restart) restart();
    if (Once(request, name, visit)) return;
  }
  throw SystemError{
      EINTR, name,
      "the table changed during each of " + std::to_string(kDumpAttempts) + " attempts to read it"};
}

// False if the dump was interrupted by a change, and must be read again.
bool Netlink::Once(nlmsghdr* request, const char* name, const Visit& visit) {
  request->nlmsg_seq = ++sequence_;
  if (::send(socket_.get(), request, request->nlmsg_len, 0) < 0) ThrowSystem("send", name);
  std::vector<uint8_t> answer(kAnswerBytes);
  bool interrupted = false;
  for (;;) {
    const ssize_t received = ::recv(socket_.get(), answer.data(), answer.size(), 0);
    if (received < 0) {
      if (errno == EINTR) continue;
      ThrowSystem("recv", name);
    }
    auto left = static_cast<uint32_t>(received);
    for (auto* message = reinterpret_cast<nlmsghdr*>(answer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_seq != sequence_) continue;
      if ((message->nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
      if (message->nlmsg_type == NLMSG_DONE) return !interrupted;
      if (message->nlmsg_type == NLMSG_ERROR) {
        const int error = static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
        if (error != 0) throw SystemError{-error, name, ""};
        return true;
      }
      visit(*message);
    }
  }
}

Napi::Value InterfaceInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string name = StringArgument(info, 0);
  const uint32_t index = Guard(env, [&] {
    const uint32_t found = ::if_nametoindex(name.c_str());
    // Other errors, such as a lack of descriptors, say nothing about the interface.
    if (found == 0 && errno != ENODEV && errno != ENXIO) ThrowSystem("if_nametoindex");
    return found;
  });
  if (index == 0) return env.Undefined();
  const Interface from = Guard(env, [&] { return ReadInterface(index); });
  if (!from.found) return env.Undefined();

  Napi::Array addresses = Napi::Array::New(env, from.addresses.size());
  for (uint32_t i = 0; i < from.addresses.size(); i++) {
    Napi::Object address = Napi::Object::New(env);
    address.Set("address", ToValue(env, from.addresses[i].address));
    address.Set("prefix", static_cast<uint32_t>(from.addresses[i].prefix));
    address.Set("label", from.addresses[i].label);
    addresses.Set(i, address);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("index", index);
  result.Set("mac", ToBytes(env, from.mac, kMacBytes));
  result.Set("mtu", from.mtu);
  result.Set("up", (from.flags & IFF_UP) != 0);
  result.Set("loopback", (from.flags & IFF_LOOPBACK) != 0);
  result.Set("addresses", addresses);
  return result;
}

Napi::Value Neighbours(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t index = NumberArgument(info, 0);
  const std::vector<NeighbourEntry> entries = Guard(env, [&] { return ReadNeighbours(index); });
  Napi::Array result = Napi::Array::New(env, entries.size());
  for (uint32_t i = 0; i < entries.size(); i++) {
    Napi::Object neighbour = Napi::Object::New(env);
    neighbour.Set("address", ToValue(env, entries[i].address));
    neighbour.Set("mac", entries[i].usable ? Napi::Value(ToBytes(env, entries[i].mac, kMacBytes))
                                           : env.Undefined());
    neighbour.Set("state", static_cast<uint32_t>(entries[i].state));
    result.Set(i, neighbour);
  }
  return result;
}

Napi::Value ResolveNeighbour(const Napi::CallbackInfo& info) {
  AskAboutNeighbour(info, RTM_NEWNEIGH, "RTM_NEWNEIGH", NTF_USE);
  return info.Env().Undefined();
}

Napi::Value ForgetNeighbour(const Napi::CallbackInfo& info) {
  AskAboutNeighbour(info, RTM_DELNEIGH, "RTM_DELNEIGH", 0);
  return info.Env().Undefined();
}

}  // namespace baton
