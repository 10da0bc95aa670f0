#include "devices/virtio/virtio_network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "devices/network/ethernet.hpp"
#include "devices/network/frame_offload.hpp"
#include "devices/virtio/flow_hash.hpp"

namespace viv {
namespace {

using namespace virtio;

// Feature bits (5.1.3)
constexpr uint64_t CSUM = feature(0), GUEST_CSUM = feature(1), CTRL_GUEST_OFFLOADS = feature(2), MTU = feature(3),
                   MAC = feature(5), GUEST_TSO4 = feature(7), GUEST_TSO6 = feature(8), GUEST_ECN = feature(9),
                   HOST_TSO4 = feature(11), HOST_TSO6 = feature(12), HOST_ECN = feature(13), MRG_RXBUF = feature(15),
                   STATUS = feature(16), CTRL_VQ = feature(17), CTRL_RX = feature(18), CTRL_VLAN = feature(19),
                   CTRL_RX_EXTRA = feature(20), GUEST_ANNOUNCE = feature(21), MQ = feature(22),
                   CTRL_MAC_ADDR = feature(23), SPEED_DUPLEX = feature(63);
constexpr uint64_t guest_offloads = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN;

// The status of the configuration (5.1.4)
constexpr uint8_t LINK_UP = 1, ANNOUNCE = 2;

/// Of the header, behind what is undone of the frame (5.1.6).
constexpr size_t num_buffers_at = 10;

// Control (5.1.6.5)
enum Class : uint8_t { RX = 0, MAC_CLASS = 1, VLAN = 2, ANNOUNCE_CLASS = 3, MQ_CLASS = 4, OFFLOADS_CLASS = 5 };
enum Mode : uint8_t { PROMISC = 0, ALLMULTI = 1, ALLUNI = 2, NOMULTI = 3, NOUNI = 4, NOBCAST = 5 };
enum MacCommand : uint8_t { TABLE_SET = 0, ADDR_SET = 1 };
enum VlanCommand : uint8_t { VLAN_ADD = 0, VLAN_DEL = 1 };
constexpr uint8_t VQ_PAIRS_SET = 0, ANNOUNCE_ACK = 0, OFFLOADS_SET = 0;
constexpr uint8_t ACK_OK = 0, ACK_ERR = 1;
constexpr size_t most_control_data = 16 * 1024;

constexpr size_t mac_size = 6;
/// The specification's words have it the other way round (5.1.4), all drivers and devices so.
constexpr uint8_t full_duplex = 1;

/// Where a frame's type is, and that of one with a VLAN's tag.
constexpr size_t type_at = 12, tag_at = 14, tag_size = 4;

bool is_tagged(std::span<const uint8_t> frame) {
    constexpr uint16_t type_vlan = 0x8100;
    return frame.size() > tag_at + 1 && load_big16(frame, type_at) == type_vlan;
}

uint16_t number_at(std::span<const uint8_t> bytes, size_t at) {
    return static_cast<uint16_t>(bytes[at] | bytes[at + 1] << 8);
}

bool has_address(const std::vector<uint8_t>& table, std::span<const uint8_t> address) {
    for (size_t at = 0; at < table.size(); at += mac_size) {
        if (std::equal(address.begin(), address.end(), table.begin() + static_cast<ptrdiff_t>(at))) return true;
    }
    return false;
}

}  // namespace

VirtioNetwork::VirtioNetwork(NetworkPort port, Clock& clock, std::optional<uint16_t> mtu, unsigned pairs)
    : port_(std::move(port)),
      clock_(clock),
      mtu_(mtu),
      pairs_(pairs),
      identity_{
          .id = DeviceId::net, .class_code = 0x020000, .queue_sizes = std::vector<uint16_t>(size_t{2} * pairs, 256)},
      loaded_(clock, [this](VirtualTime) { announce(); }) {
    VIV_ASSERT(pairs >= 1 && pairs <= most_pairs);
    identity_.queue_sizes.push_back(64);
    state_.mac = port_.mac;
    port_.link->on_receive([this] { receive(); });
    port_.link->on_state([this] { link_changed(); });
}

uint64_t VirtioNetwork::features() const {
    return guest_offloads | CTRL_GUEST_OFFLOADS | GUEST_ANNOUNCE | CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | MAC |
           MRG_RXBUF | STATUS | CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_RX_EXTRA | CTRL_MAC_ADDR | SPEED_DUPLEX |
           (mtu_ ? MTU : 0) | (pairs_ > 1 ? MQ : 0);
}

bool VirtioNetwork::accepts(uint64_t features) const {
    if (!(features & CSUM) && (features & (HOST_TSO4 | HOST_TSO6))) return false;
    if (!(features & (HOST_TSO4 | HOST_TSO6)) && (features & HOST_ECN)) return false;
    if (!(features & GUEST_CSUM) && (features & (GUEST_TSO4 | GUEST_TSO6))) return false;
    if (!(features & (GUEST_TSO4 | GUEST_TSO6)) && (features & GUEST_ECN)) return false;
    // The other features of control are allowed without it (5.1.3.1), and then of no use.
    return (features & CTRL_VQ) || !(features & (CTRL_RX | CTRL_VLAN | CTRL_MAC_ADDR | MQ | GUEST_ANNOUNCE));
}

std::vector<uint8_t> VirtioNetwork::configuration() const {
    const uint16_t mtu = mtu_.value_or(0);
    // Where the driver cannot choose, there is no such field.
    const unsigned pairs = pairs_ > 1 ? pairs_ : 0;
    std::vector<uint8_t> bytes(state_.mac.begin(), state_.mac.end());
    const uint8_t status = port_.link->up() ? LINK_UP | (state_.announces ? ANNOUNCE : 0) : 0;
    bytes.insert(bytes.end(),
                 {status, 0, static_cast<uint8_t>(pairs), 0, static_cast<uint8_t>(mtu), static_cast<uint8_t>(mtu >> 8),
                  static_cast<uint8_t>(speed), static_cast<uint8_t>(speed >> 8), static_cast<uint8_t>(speed >> 16),
                  static_cast<uint8_t>(speed >> 24), full_duplex});
    return bytes;
}

/// Before version 1.0 the address was written here.
void VirtioNetwork::write_configuration(uint64_t offset, uint8_t value) {
    if (transport().legacy() && offset < mac_size) state_.mac[offset] = value;
}

size_t VirtioNetwork::header_size() const {
    return transport().legacy() && !transport().has(MRG_RXBUF) ? 10 : 12;
}

unsigned VirtioNetwork::control_queue() const {
    return transport().has(MQ) ? 2 * pairs_ : 2;
}

void VirtioNetwork::notified(unsigned queue) {
    const unsigned control_at = control_queue();
    if (queue > control_at || (queue == control_at && !transport().has(CTRL_VQ))) return;
    if (queue != control_at && queue % 2 == 0) return receive();
    transport().serve(queue, [&](VirtqueueChain& chain, GuestMemory& memory) {
        return queue == control_at ? control(chain, memory) : send(queue / 2, chain, memory);
    });
}

// ---- Link ----------------------------------------------------------------------------------------------------------

/// Whoever is plugged in again may be at another place of the network.
void VirtioNetwork::link_changed() {
    state_.announces = may_announce();
    transport().configuration_changed();
}

void VirtioNetwork::announce() {
    if (may_announce()) link_changed();
}

bool VirtioNetwork::may_announce() const {
    return port_.link->up() && transport().running() && transport().has(GUEST_ANNOUNCE);
}

// ---- Receiving -----------------------------------------------------------------------------------------------------

bool VirtioNetwork::wants(std::span<const uint8_t> frame) const {
    const auto address = frame.first(mac_size);
    if (transport().has(CTRL_VLAN) && is_tagged(frame)) {
        const unsigned vlan = load_big16(frame, tag_at) & 0xFFFu;
        // Number 0 is a priority only.
        if (vlan != 0 && !(state_.vlans[vlan / 32] >> (vlan % 32) & 1)) return false;
    }
    return state_.promiscuous || wants_address(address);
}

/// What is suppressed stays so, whatever else is wanted (5.1.6.5.1).
bool VirtioNetwork::wants_address(std::span<const uint8_t> address) const {
    if (is_broadcast(address)) return !state_.no_broadcasts;
    if (address[0] & 1) return !state_.no_groups && (state_.every_group || has_address(state_.groups, address));
    if (state_.no_addresses) return false;
    return state_.every_address || std::ranges::equal(address, state_.mac) || has_address(state_.addresses, address);
}

/// A packet that is not whole has its own limit.
bool VirtioNetwork::is_too_long(std::span<const uint8_t> frame) const {
    if (!transport().has(MTU) || port_.link->front_offload().packet != FrameOffload::Packet::whole) return false;
    const size_t header = is_tagged(frame) ? tag_at + tag_size : tag_at;
    return frame.size() > header + mtu_.value_or(0);
}

/// Where the driver sends a flow from, it wants its answers (5.1.6.5.6).
unsigned VirtioNetwork::pair_for(std::span<const uint8_t> frame) const {
    if (state_.pairs == 1) return 0;
    const uint8_t hash = flow_hash(frame);
    const uint8_t pair = state_.flows[hash];
    return pair > 0 && pair <= state_.pairs ? pair - 1u : hash % state_.pairs;
}

/// Whether the driver took a feature for receiving, and has not switched it off.
bool VirtioNetwork::on(uint64_t feature) const {
    return transport().has(feature) && (!state_.offloads || (*state_.offloads & feature));
}

void VirtioNetwork::take_offloads() {
    port_.link->take_undone(
        {.checksum = on(GUEST_CSUM), .tcp4 = on(GUEST_TSO4), .tcp6 = on(GUEST_TSO6), .marks = on(GUEST_ECN)});
}

void VirtioNetwork::receive() {
    // A driver that is not there yet does not lose what was sent before.
    if (!transport().running()) return;
    take_offloads();
    for (auto frame = port_.link->front(); !frame.empty(); frame = port_.link->front()) {
        if (is_too_long(frame)) {
            ++state_.dropped;
            port_.link->pop();
            continue;
        }
        if (!wants(frame)) {
            ++state_.filtered;
            port_.link->pop();
            continue;
        }
        const size_t header = header_size();
        auto offload = port_.link->front_offload();
        offload.checked = offload.checked && on(GUEST_CSUM);
        const OffloadHeader undone = write_offload(offload, frame);
        scratch_.assign(undone.begin(), undone.end());
        scratch_.resize(header);
        scratch_.insert(scratch_.end(), frame.begin(), frame.end());
        const auto bytes = std::as_writable_bytes(std::span(scratch_));
        const bool merges = transport().has(MRG_RXBUF);
        const auto prepare = [&](unsigned buffers) {
            if (header > num_buffers_at) scratch_[num_buffers_at] = static_cast<uint8_t>(buffers);
        };
        const auto result = transport().deliver(2 * pair_for(frame), bytes, merges ? most_buffers : 1, prepare);
        if (result == VirtioTransport::Delivered::no_room) return;
        ++(result == VirtioTransport::Delivered::done ? state_.received : state_.dropped);
        port_.link->pop();
    }
}

// ---- Sending -------------------------------------------------------------------------------------------------------

std::optional<uint32_t> VirtioNetwork::send(unsigned pair, VirtqueueChain& chain, GuestMemory& memory) {
    std::array<uint8_t, 12> header{};
    const size_t size = header_size();
    bool good = chain.readable_size >= size + NetworkLink::least_frame && chain.readable_size <= size + most_packet &&
                chain.read(memory, 0, std::as_writable_bytes(std::span(header)).first(size));
    if (good) {
        scratch_.resize(chain.readable_size - size);
        good = chain.read(memory, size, std::as_writable_bytes(std::span(scratch_))) && send_frame(header);
    }
    if (good && state_.pairs > 1) state_.flows[flow_hash(scratch_)] = static_cast<uint8_t>(pair + 1);
    ++(good ? state_.sent : state_.dropped);
    return 0;
}

/// As the link takes it, or finished. Where the headers of a packet end is looked up, whatever the driver says.
bool VirtioNetwork::send_frame(std::span<const uint8_t, 12> header) {
    const auto offload = read_offload(header.first<offload_header_size>());
    const Offloads negotiated{.checksum = transport().has(CSUM),
                              .tcp4 = transport().has(HOST_TSO4),
                              .tcp6 = transport().has(HOST_TSO6),
                              .marks = transport().has(HOST_ECN)};
    if (!offload || !negotiated.take(*offload) || !can_finish(scratch_, *offload)) return false;
    if (offload->packet == FrameOffload::Packet::whole && scratch_.size() > NetworkLink::most_frame) return false;
    if (!offload->finished() && port_.link->offloads().take(*offload)) {
        port_.link->send_undone(scratch_, *offload);
        return true;
    }
    return finish_frame(scratch_, *offload, segment_,
                        [this](std::span<const uint8_t> frame) { port_.link->send(frame); });
}

// ---- Control -------------------------------------------------------------------------------------------------------

std::optional<uint32_t> VirtioNetwork::control(VirtqueueChain& chain, GuestMemory& memory) {
    if (chain.writable_size < 1) return 0;
    bool good = chain.readable_size >= 2 && chain.readable_size <= most_control_data;
    if (good) {
        std::vector<uint8_t> bytes(chain.readable_size);
        good = chain.read(memory, 0, std::as_writable_bytes(std::span(bytes))) &&
               obey(bytes[0], bytes[1], std::span(bytes).subspan(2));
    }
    const std::array answer{static_cast<std::byte>(good ? ACK_OK : ACK_ERR)};
    return chain.write(memory, 0, answer) ? 1 : 0;
}

bool VirtioNetwork::obey(uint8_t kind, uint8_t command, std::span<const uint8_t> data) {
    if (kind == RX) {
        const bool extra = command > ALLMULTI;
        if (command > NOBCAST || data.size() != 1 || !transport().has(extra ? CTRL_RX_EXTRA : CTRL_RX)) return false;
        const bool on = data[0] != 0;
        switch (static_cast<Mode>(command)) {
            case PROMISC: state_.promiscuous = on; break;
            case ALLUNI: state_.every_address = on; break;
            case ALLMULTI: state_.every_group = on; break;
            case NOMULTI: state_.no_groups = on; break;
            case NOUNI: state_.no_addresses = on; break;
            case NOBCAST: state_.no_broadcasts = on; break;
        }
        return true;
    }
    if (kind == VLAN) {
        if (!transport().has(CTRL_VLAN) || command > VLAN_DEL || data.size() != 2) return false;
        const unsigned vlan = number_at(data, 0);
        if (vlan >= 32 * state_.vlans.size()) return false;
        const uint32_t bit = 1u << (vlan % 32);
        uint32_t& word = state_.vlans[vlan / 32];
        word = command == VLAN_ADD ? word | bit : word & ~bit;
        return true;
    }
    if (kind == MQ_CLASS) {
        if (!transport().has(MQ) || command != VQ_PAIRS_SET || data.size() != 2) return false;
        const uint16_t wanted = number_at(data, 0);
        if (wanted < 1 || wanted > pairs_) return false;
        state_.pairs = wanted;
        state_.flows = {};
        return true;
    }
    if (kind == ANNOUNCE_CLASS) {
        if (!transport().has(GUEST_ANNOUNCE) || command != ANNOUNCE_ACK || !data.empty()) return false;
        state_.announces = false;
        return true;
    }
    if (kind == OFFLOADS_CLASS) {
        if (!transport().has(CTRL_GUEST_OFFLOADS) || command != OFFLOADS_SET || data.size() != 8) return false;
        uint64_t wanted = 0;
        for (size_t i = data.size(); i-- > 0;) wanted = wanted << 8 | data[i];
        if ((wanted & ~guest_offloads) || !transport().has(wanted)) return false;
        state_.offloads = wanted;
        take_offloads();
        return true;
    }
    if (kind != MAC_CLASS) return false;
    if (command == TABLE_SET) return transport().has(CTRL_RX) && set_tables(data);
    if (command != ADDR_SET || !transport().has(CTRL_MAC_ADDR) || data.size() != mac_size) return false;
    std::ranges::copy(data, state_.mac.begin());
    return true;
}

/// Two tables, each behind its number of entries (5.1.6.5.2).
bool VirtioNetwork::set_tables(std::span<const uint8_t> data) {
    std::array<std::span<const uint8_t>, 2> tables;
    for (auto& table : tables) {
        if (data.size() < 4) return false;
        const uint64_t count = uint64_t{number_at(data, 2)} << 16 | number_at(data, 0);
        data = data.subspan(4);
        if (count * mac_size > data.size()) return false;
        table = data.first(count * mac_size);
        data = data.subspan(table.size());
    }
    const size_t limit = most_addresses * mac_size;
    if (tables[0].size() > limit) state_.every_address = true;
    if (tables[1].size() > limit) state_.every_group = true;
    const auto keep = [limit](std::span<const uint8_t> table) {
        const auto kept = table.first(std::min(table.size(), limit));
        return std::vector<uint8_t>(kept.begin(), kept.end());
    };
    state_.addresses = keep(tables[0]);
    state_.groups = keep(tables[1]);
    return true;
}

// ---- State ---------------------------------------------------------------------------------------------------------

void VirtioNetwork::driver_reset() {
    loaded_.cancel();
    port_.link->take_undone({});
    const VirtioNetworkState before = std::exchange(state_, {});
    state_.mac = port_.mac;
    state_.sent = before.sent;
    state_.received = before.received;
    state_.filtered = before.filtered;
    state_.dropped = before.dropped;
}

void VirtioNetwork::reset(ResetKind /*kind*/) {
    state_ = {};
    state_.mac = port_.mac;
}

/// The machine may be another one now, at another place of the network. Not at once: other devices are not loaded yet.
void VirtioNetwork::after_load() {
    loaded_.arm(clock_.now());
}

Result<void> VirtioNetwork::validate(const VirtioNetworkState& staged) const {
    for (const auto* table : {&staged.addresses, &staged.groups}) {
        if (table->size() % mac_size != 0 || table->size() > most_addresses * mac_size)
            return fail("the saved state of the network card has a table of addresses that cannot be");
    }
    const auto is_pair = [this](uint8_t pair) { return pair <= pairs_; };
    if (staged.pairs < 1 || staged.pairs > pairs_ || !std::ranges::all_of(staged.flows, is_pair))
        return fail("the saved state of the network card has other queues");
    if (staged.offloads.value_or(0) & ~guest_offloads)
        return fail("the saved state of the network card has offloads that are none");
    return {};
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_network(DeviceContext& context) {
    std::optional<uint16_t> mtu;
    if (const auto wanted = context.node.u32("viv,mtu")) {
        if (*wanted < 68 || *wanted > 0xFFFF) return context.refuse("`viv,mtu` is not 68 to 65535");
        mtu = static_cast<uint16_t>(*wanted);
    }
    const uint32_t pairs = context.node.u32("viv,queues").value_or(1);
    if (pairs < 1 || pairs > VirtioNetwork::most_pairs)
        return context.refuse(fmt::format("`viv,queues` is not 1 to {}", VirtioNetwork::most_pairs));
    auto port = TRY(open_network_port(context));
    return std::make_unique<VirtioNetwork>(std::move(port), context.clock, mtu, pairs);
}

}  // namespace viv
