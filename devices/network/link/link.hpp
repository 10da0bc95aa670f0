#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/network/frame_offload.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/result.hpp"

namespace viv {

struct DeviceContext;
class LinkActivity;

using MacAddress = std::array<uint8_t, 6>;

/// "52:54:00:12:34:56". Errors are of kind usage: not six bytes, or the address of a group.
Result<MacAddress> parse_mac_address(std::string_view text);
std::string to_string(const MacAddress& address);

/// The cable in a NIC, and what is at its other end. A frame is an Ethernet frame from its destination address on,
/// without preamble and checksum (FCS), and not padded. All calls are made under the machine lock; none blocks, and
/// nothing is called back from inside one. What the host sends reaches the NIC only in handlers of the event loop, so
/// a deterministic run stays one.
///
/// What a link holds is not part of a saved machine: it is lost as on a network that was down for a moment.
class NetworkLink {
  public:
    static constexpr size_t least_frame = 14;
    static constexpr size_t most_frame = 65'550;

    virtual ~NetworkLink() = default;
    /// Takes a frame from the NIC. What is not least_frame to most_frame bytes, or comes while the link is down, is
    /// dropped, and so is what the other end cannot take.
    virtual void send(std::span<const uint8_t> frame) = 0;
    /// The oldest frame that the NIC has not taken yet; empty when there is none. Valid until pop(). A NIC that has no
    /// room leaves it there: the link holds back its other end, or drops, when too many wait.
    [[nodiscard]] virtual std::span<const uint8_t> front() const = 0;
    /// The NIC has taken the frame of front(), which is there, or does not want it.
    virtual void pop() = 0;
    /// `callback` is called in handlers of the event loop when front() has become one.
    virtual void on_receive(std::move_only_function<void()> callback) = 0;
    /// Whether there is a carrier.
    [[nodiscard]] virtual bool up() const = 0;
    /// Plugs the cable in or out; what waits is lost.
    virtual void set_up(bool up) = 0;
    /// `callback` is called in handlers of the event loop when up() has changed.
    virtual void on_state(std::move_only_function<void()> callback) = 0;

    // For NICs whose drivers leave work to others. A link that says nothing of this carries finished frames alone.

    /// What the other end takes undone. It may change while the machine runs.
    [[nodiscard]] virtual Offloads offloads() const { return {}; }
    /// As send(), for a packet of up to most_packet bytes with something undone, that can be done (can_finish()) and
    /// that the other end takes.
    virtual void send_undone(std::span<const uint8_t> /*packet*/, const FrameOffload& /*offload*/) {}
    /// What the NIC takes undone from now on, also of what waits: front() is finished otherwise. Nothing at first.
    virtual void take_undone(const Offloads& /*offloads*/) {}
    /// What is undone of front().
    [[nodiscard]] virtual FrameOffload front_offload() const { return {}; }

    /// What a person must know of the other end: "user, 127.0.0.1:2222 to port 22"; empty when there is nothing.
    [[nodiscard]] virtual std::string description() const = 0;
};

/// What links are made of.
struct LinkSetup {
    EventLoop& loop;
    Clock& clock;
    MacAddress mac;  // of the NIC
    std::vector<std::string> published =
        {};  // "[ADDR:]HOST:GUEST[/udp]" each, of user links; HOST "free" finds a port, and tells
    LinkActivity* activity = nullptr;
    std::string record = {};  // a file for every frame either way: PcapFile; empty for none
};

/// Opens what `spec` names:
///     none | user[,restrict=on][,tftp=DIR][,bootfile=NAME][,hostname=NAME] | switch:NAME | tap:NAME[,bridge=NAME] |
///     passt[,socket=PATH | [,tcp=PORTS][,udp=PORTS]] | loopback
/// and behind each of them [,link=up|down], how it begins, and [,loss=P%][,delay=N(us|ms|s)][,rate=N[KMG]][,seed=N],
/// which are for what the NIC sends.
/// `user` is libslirp's network, `switch` that of all machines of this user, `tap` an interface of the host,
/// `passt` that program's network, `none` is
/// a cable that nothing is at the end of (no carrier), `loopback` returns every frame. Errors are of kind usage or
/// failure and name the spec.
Result<std::unique_ptr<NetworkLink>> open_network_link(std::string_view spec, LinkSetup setup);

/// What a NIC's maker needs of its node: `local-mac-address` (six bytes) and the link of `viv,link` (without it: none),
/// whose frames go to the file of `viv,pcap` (without it: to none), and which Cables know by `viv,nic`, its number
/// (without it: the first that is free).
struct NetworkPort {
    MacAddress mac{};
    std::unique_ptr<NetworkLink> link;
};
Result<NetworkPort> open_network_port(const DeviceContext& context);

}  // namespace viv
