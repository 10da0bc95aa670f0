// Models: a virtio socket device: stream connections both ways between a guest and programs of the host, credit,
//   one-sided and full shutdown, and the event for connections that a restored machine has lost
// Not modelled: sockets of sequential packets and of datagrams
// Ignored bits: flags of packets other than SHUTDOWN; events of a driver
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.10
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "devices/virtio/socket/host_socket.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct VirtioSocketState {
    bool lost = false;  // the guest may know connections that are no more, and has to be told
    static void fields(auto& self, auto&& visit) { visit("lost", self.lost); }
    bool operator==(const VirtioSocketState&) const = default;
};

/// The head of each packet (5.10.6), as it lies in memory.
struct VirtioSocketHeader {
    uint64_t from_cid = 0;
    uint64_t to_cid = 0;
    uint32_t from_port = 0;
    uint32_t to_port = 0;
    uint32_t size = 0;  // of the bytes behind it
    uint16_t type = 0;
    uint16_t operation = 0;
    uint32_t flags = 0;
    uint32_t buffer_size = 0;
    uint32_t forwarded = 0;
};

class VirtioSocket final : public StatefulDevice<VirtioSocketState>, public VirtioFunction {
  public:
    /// What the host has not taken of a connection, at most; the guest is told.
    static constexpr uint32_t buffer_size = 256 * 1024;
    /// Connections at a time, with those that the guest has closed and the host still reads from.
    static constexpr size_t most_connections = 256;
    /// Refusals that wait for a buffer of the driver; with that many its packets wait.
    static constexpr size_t most_refusals = 64;
    /// Bytes of one packet to the driver.
    static constexpr size_t most_read = 64 * 1024;
    /// How long a guest may think about a connection.
    static constexpr Duration patience = std::chrono::seconds(2);
    static constexpr uint64_t host_cid = 2;

    /// `cid`: the guest's number, from 3 on.
    VirtioSocket(uint32_t cid, std::unique_ptr<SocketHost> host, Clock& clock);

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void notified(unsigned queue) override;
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }
    void reset(ResetKind kind) override;

    /// Connections now, with those that the guest has closed and the host still reads from.
    [[nodiscard]] size_t connections() const { return connections_.size() + leaving_.size(); }
    /// Packets that made no sense.
    [[nodiscard]] uint64_t malformed() const { return malformed_; }

  protected:
    void before_save() override { state_.lost = lost_ || !connections_.empty(); }
    void after_load() override;

  private:
    static constexpr unsigned receive_queue = 0, send_queue = 1, event_queue = 2;
    enum class Phase { calling, established };
    struct Ports {
        uint32_t guest = 0;
        uint32_t host = 0;
        auto operator<=>(const Ports&) const = default;
    };
    /// Bytes of the guest that the host has not taken.
    struct Backlog {
        std::vector<std::byte> bytes;
        size_t taken = 0;
        [[nodiscard]] size_t size() const { return bytes.size() - taken; }
        void add(std::span<const std::byte> more);
        void take(size_t count);
    };
    struct Connection {
        Phase phase = Phase::established;
        std::unique_ptr<HostSocket> socket;
        Backlog backlog;
        VirtualTime deadline{};  // while calling
        bool listed = false;     // in ready_
        bool readable = false;   // the host may have bytes
        bool end_read = false;   // the host has no more
        bool owes_call = false;  // a packet that the guest is to get, each of these
        bool owes_answer = false;
        bool owes_credit = false;
        bool asked_credit = false;     // since the guest last told
        uint32_t host_ended = 0;       // shutdown flags of the host's end
        uint32_t host_ended_told = 0;  // that the guest knows
        uint32_t guest_ended = 0;      // of the guest's
        uint32_t guest_buffer = 0;     // what it told
        uint32_t guest_forwarded = 0;
        uint32_t sent = 0;       // bytes to the guest
        uint32_t received = 0;   // from the guest
        uint32_t forwarded = 0;  // to the host
        uint32_t forwarded_told = 0;
    };
    struct Refusal {
        uint64_t from_cid = 0;
        uint32_t from_port = 0;
        uint32_t to_port = 0;
        uint16_t type = 0;
    };
    struct Leaving {
        std::unique_ptr<HostSocket> socket;
        Backlog backlog;
    };

    [[nodiscard]] Connection* find(Ports ports);
    // Packets of the driver
    std::optional<uint32_t> take_packet(VirtqueueChain& chain, GuestMemory& memory);
    void take_call(const VirtioSocketHeader& header);
    void handle(Ports ports, Connection& connection, const VirtioSocketHeader& header, const VirtqueueChain& chain,
                const GuestMemory& memory);
    void take_bytes(Ports ports, Connection& connection, uint32_t size, const VirtqueueChain& chain,
                    const GuestMemory& memory);
    void take_shutdown(Ports ports, Connection& connection, uint32_t flags);
    // Packets for the driver
    void tell();
    void tell_lost();
    void list(Ports ports, Connection& connection);
    bool fill_packet(Ports ports, Connection& connection, uint64_t room, VirtioSocketHeader& header);
    bool read_host(Connection& connection, uint64_t room, VirtioSocketHeader& header);
    [[nodiscard]] static uint32_t credit(const Connection& connection);
    // The host
    void call(uint32_t port, std::unique_ptr<HostSocket> socket);
    void listen(Ports ports, Connection& connection);
    void flush(Ports ports, Connection& connection);
    void flush_leaving(uint64_t number);
    void drop(Ports ports);
    void refuse(Ports ports);
    void drop_all();
    void time_is_up();

    uint32_t cid_;
    std::unique_ptr<SocketHost> host_;
    Clock& clock_;
    Timer timer_;
    std::map<Ports, Connection> connections_;
    std::deque<Ports> ready_;  // may have something for the guest, in turn
    std::deque<Refusal> refusals_;
    std::map<uint64_t, Leaving> leaving_;
    uint64_t next_leaving_ = 0;
    uint32_t next_port_ = 0;
    bool lost_ = false;
    uint64_t malformed_ = 0;
    std::vector<std::byte> bytes_;  // of the packet at hand
    VirtioIdentity identity_{
        .id = virtio::DeviceId::socket, .class_code = 0x078000, .queue_sizes = {128, 128, 16}, .transitional = false};
};

/// viv,function = "socket": viv,cid, viv,socket (a path). Provides VirtioSocket.
Result<std::unique_ptr<VirtioFunction>> make_virtio_socket(DeviceContext& context);

}  // namespace viv
