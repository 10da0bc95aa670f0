// Models: a virtio network card with one to eight pairs of queues and one for control: checksums and TCP segmentation
//   either way, merged receive buffers, filters of addresses and VLANs, MAC, MTU, link state, announcements, speed
// Not modelled: UDP segmentation, hashes that are told
// Ignored bits: header length of what is sent
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.1
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/network/link/link.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct VirtioNetworkState {
    MacAddress mac{};
    bool promiscuous = true;  // until the driver says what it wants
    bool every_address = false;
    bool every_group = false;
    bool no_groups = false;
    bool no_addresses = false;
    bool no_broadcasts = false;
    std::vector<uint8_t> addresses;  // six bytes each
    std::vector<uint8_t> groups;
    std::array<uint32_t, 128> vlans{};  // a bit for each number that is let through
    uint16_t pairs = 1;                 // of queues that are in use
    bool announces = false;             // the driver is asked to say where it is
    /// What of the features for receiving the driver has switched on since; nothing: all that it took.
    std::optional<uint64_t> offloads{};
    /// By the hash of a flow: the pair that the driver last sent it by, counted from 1; 0 for none.
    std::array<uint8_t, 256> flows{};
    uint64_t sent = 0;
    uint64_t received = 0;
    uint64_t filtered = 0;
    uint64_t dropped = 0;  // either way
    static void fields(auto& self, auto&& visit) {
        visit("mac", self.mac);
        visit("promiscuous", self.promiscuous);
        visit("every-address", self.every_address);
        visit("every-group", self.every_group);
        visit("no-groups", self.no_groups);
        visit("no-addresses", self.no_addresses);
        visit("no-broadcasts", self.no_broadcasts);
        visit("addresses", self.addresses);
        visit("groups", self.groups);
        visit("vlans", self.vlans);
        visit("pairs", self.pairs);
        visit("announces", self.announces);
        visit("offloads", self.offloads);
        visit("flows", self.flows);
        visit("sent", self.sent);
        visit("received", self.received);
        visit("filtered", self.filtered);
        visit("dropped", self.dropped);
    }
    bool operator==(const VirtioNetworkState&) const = default;
};

class VirtioNetwork final : public StatefulDevice<VirtioNetworkState>, public VirtioFunction {
  public:
    static constexpr unsigned most_pairs = 8;
    /// What the driver is told, in Mbit/s; frames go as fast as they can.
    static constexpr uint32_t speed = 10'000;
    /// Addresses of each kind that the filter takes; with more of them it lets all of that kind through.
    static constexpr size_t most_addresses = 64;
    /// Buffers that one frame is spread over at most.
    static constexpr unsigned most_buffers = 64;

    /// Without an MTU the driver takes the usual one; 1 to most_pairs pairs of queues.
    VirtioNetwork(NetworkPort port, Clock& clock, std::optional<uint16_t> mtu, unsigned pairs = 1);

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] bool accepts(uint64_t features) const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void write_configuration(uint64_t offset, uint8_t value) override;
    void notified(unsigned queue) override;
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }

    void reset(ResetKind kind) override;

  protected:
    Result<void> validate(const VirtioNetworkState& staged) const override;
    void after_load() override;

  private:
    [[nodiscard]] size_t header_size() const;
    /// Each pair's queue for receiving is in front of its queue for sending; the last queue, or the third for a driver
    /// that knows one pair, is for control, if the driver knows of that.
    [[nodiscard]] unsigned control_queue() const;
    void link_changed();
    /// Asks the driver to say where it is now, if it knows that it may be asked.
    void announce();
    [[nodiscard]] bool may_announce() const;
    [[nodiscard]] bool on(uint64_t feature) const;
    /// Tells the link what the driver takes.
    void take_offloads();
    void receive();
    [[nodiscard]] unsigned pair_for(std::span<const uint8_t> frame) const;
    [[nodiscard]] bool wants(std::span<const uint8_t> frame) const;
    [[nodiscard]] bool wants_address(std::span<const uint8_t> address) const;
    /// Longer than the MTU that the driver knows.
    [[nodiscard]] bool is_too_long(std::span<const uint8_t> frame) const;
    std::optional<uint32_t> send(unsigned pair, VirtqueueChain& chain, GuestMemory& memory);
    bool send_frame(std::span<const uint8_t, 12> header);
    std::optional<uint32_t> control(VirtqueueChain& chain, GuestMemory& memory);
    [[nodiscard]] bool obey(uint8_t kind, uint8_t command, std::span<const uint8_t> data);
    [[nodiscard]] bool set_tables(std::span<const uint8_t> data);

    NetworkPort port_;
    Clock& clock_;
    std::optional<uint16_t> mtu_;
    unsigned pairs_;
    VirtioIdentity identity_;
    std::vector<uint8_t> scratch_;
    std::vector<uint8_t> segment_;
    Timer loaded_;  // a moment after a load
};

/// viv,function = "network": local-mac-address, viv,link, viv,mtu, viv,queues (pairs).
Result<std::unique_ptr<VirtioFunction>> make_virtio_network(DeviceContext& context);

}  // namespace viv
