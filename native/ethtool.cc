// Queries the driver of an interface: receiveQueues, transmitQueues and interfaceDriver of
// src/host/native.ts.
#include <dirent.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "addon.h"
#include "errors.h"

namespace baton {

namespace {

// Runs an ethtool command. False if the driver does not support it.
template <typename Command>
bool Ask(const std::string& interface_name, Command& command, const char* name) {
  ifreq request{};
  if (interface_name.size() >= sizeof request.ifr_name)
    throw SystemError{ENODEV, name, interface_name};
  std::copy(interface_name.begin(), interface_name.end(), request.ifr_name);
  request.ifr_data = reinterpret_cast<char*>(&command);
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) ThrowSystem("socket", "AF_INET");
  if (::ioctl(socket.get(), SIOCETHTOOL, &request) == 0) return true;
  if (errno == EOPNOTSUPP) return false;
  ThrowSystem(name, interface_name);
}

// The number of queues in sysfs whose name begins with `prefix`. 0 if sysfs shows another network
// namespace than that of this thread, or has no such interface.
uint32_t ListedQueues(const std::string& interface_name, const char* prefix) {
  const std::string device = "/sys/class/net/" + interface_name;
  unsigned index = 0;
  if (const std::unique_ptr<FILE, int (*)(FILE*)> file(
          std::fopen((device + "/ifindex").c_str(), "re"), std::fclose);
      !file || std::fscanf(file.get(), "%u", &index) != 1 ||
      index != ::if_nametoindex(interface_name.c_str())) {
    return 0;
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> queues(::opendir((device + "/queues").c_str()),
                                                   ::closedir);
  if (!queues) return 0;
  uint32_t count = 0;
  while (const dirent* entry = ::readdir(queues.get())) {
    if (std::strncmp(entry->d_name, prefix, std::strlen(prefix)) == 0) count++;
  }
  return count;
}

// The number of queues of one direction: queues for this direction, and queues for both.
Napi::Value Queues(const Napi::CallbackInfo& info, uint32_t ethtool_channels::*own,
                   const char* prefix) {
  const std::string name = StringArgument(info, 0);
  const uint32_t queues = Guard(info.Env(), [&] {
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    const uint32_t count = Ask(name, channels, "ETHTOOL_GCHANNELS")
                               ? channels.*own + channels.combined_count
                               : ListedQueues(name, prefix);
    return std::max(count, 1U);
  });
  return Napi::Number::New(info.Env(), queues);
}

}  // namespace

Napi::Value ReceiveQueues(const Napi::CallbackInfo& info) {
  return Queues(info, &ethtool_channels::rx_count, "rx-");
}

Napi::Value TransmitQueues(const Napi::CallbackInfo& info) {
  return Queues(info, &ethtool_channels::tx_count, "tx-");
}

Napi::Value InterfaceDriver(const Napi::CallbackInfo& info) {
  const std::string name = StringArgument(info, 0);
  const std::string driver = Guard(info.Env(), [&]() -> std::string {
    ethtool_drvinfo driver_info{};
    driver_info.cmd = ETHTOOL_GDRVINFO;
    if (!Ask(name, driver_info, "ETHTOOL_GDRVINFO")) return "";
    return std::string(driver_info.driver,
                       ::strnlen(driver_info.driver, sizeof driver_info.driver));
  });
  return Napi::String::New(info.Env(), driver);
}

}  // namespace baton
