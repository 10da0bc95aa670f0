#include "devices/virtio/socket/virtio_socket.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "devices/virtio/socket/unix_sockets.hpp"

namespace viv {
namespace {

using namespace virtio;

// Feature bits (5.10.3)
constexpr uint64_t STREAM = feature(0);
// Types and operations of packets (5.10.6)
constexpr uint16_t TYPE_STREAM = 1;
enum Operation : uint16_t {
    REQUEST = 1,
    RESPONSE = 2,
    RST = 3,
    SHUTDOWN = 4,
    RW = 5,
    CREDIT_UPDATE = 6,
    CREDIT_REQUEST = 7,
};
// Flags of SHUTDOWN: the sender will not receive, will not send
constexpr uint32_t END_RECEIVE = 1, END_SEND = 2, END_BOTH = END_RECEIVE | END_SEND;
// The only event (5.10.6.7)
constexpr uint32_t TRANSPORT_RESET = 0;

constexpr uint64_t header_size = 44;
static_assert(offsetof(VirtioSocketHeader, forwarded) + sizeof(uint32_t) == header_size);
/// Ports of the host's side for connections that it asks for: the upper half, where nobody waits.
constexpr uint32_t first_port = 0x4000'0000;

std::span<std::byte> bytes_of(VirtioSocketHeader& header) {
    return std::as_writable_bytes(std::span(&header, 1)).first(header_size);
}

}  // namespace

VirtioSocket::VirtioSocket(uint32_t cid, std::unique_ptr<SocketHost> host, Clock& clock)
    : cid_(cid),
      host_(std::move(host)),
      clock_(clock),
      timer_(clock, [this](VirtualTime) { time_is_up(); }),
      next_port_(first_port) {
    host_->on_call([this](uint32_t port, std::unique_ptr<HostSocket> socket) { call(port, std::move(socket)); });
}

uint64_t VirtioSocket::features() const {
    return STREAM;
}

std::vector<uint8_t> VirtioSocket::configuration() const {
    std::vector<uint8_t> bytes(sizeof(uint64_t));
    for (unsigned i = 0; i < sizeof cid_; ++i) bytes[i] = static_cast<uint8_t>(cid_ >> 8 * i);
    return bytes;
}

void VirtioSocket::notified(unsigned queue) {
    if (queue == event_queue) return tell_lost();
    if (queue == send_queue) {
        transport().serve(queue,
                          [this](VirtqueueChain& chain, GuestMemory& memory) { return take_packet(chain, memory); });
    }
    tell();
}

VirtioSocket::Connection* VirtioSocket::find(Ports ports) {
    const auto at = connections_.find(ports);
    return at == connections_.end() ? nullptr : &at->second;
}

// ---- Packets of the driver -----------------------------------------------------------------------------------------

std::optional<uint32_t> VirtioSocket::take_packet(VirtqueueChain& chain, GuestMemory& memory) {
    // Each packet leads to one refusal at most, and those wait for buffers of the driver.
    if (refusals_.size() >= most_refusals) return std::nullopt;
    VirtioSocketHeader header;
    if (!chain.read(memory, 0, bytes_of(header)) || header.from_cid != cid_) {
        ++malformed_;
        return 0;
    }
    const Ports ports{header.from_port, header.to_port};
    if (header.to_cid != host_cid || header.type != TYPE_STREAM) {
        if (header.operation != RST)
            refusals_.push_back({header.to_cid, header.to_port, header.from_port, header.type});
    } else if (Connection* connection = find(ports)) {
        handle(ports, *connection, header, chain, memory);
    } else if (header.operation == REQUEST) {
        take_call(header);
    } else if (header.operation != RST) {
        refuse(ports);
    }
    return 0;
}

/// The guest wants to reach a program of the host.
void VirtioSocket::take_call(const VirtioSocketHeader& header) {
    const Ports ports{header.from_port, header.to_port};
    auto socket = connections() < most_connections ? host_->connect(ports.host) : nullptr;
    if (!socket) return refuse(ports);
    Connection& connection = connections_[ports];
    connection.socket = std::move(socket);
    connection.guest_buffer = header.buffer_size;
    connection.guest_forwarded = header.forwarded;
    connection.owes_answer = true;
    list(ports, connection);
    listen(ports, connection);
}

void VirtioSocket::handle(Ports ports, Connection& connection, const VirtioSocketHeader& header,
                          const VirtqueueChain& chain, const GuestMemory& memory) {
    connection.guest_buffer = header.buffer_size;
    connection.guest_forwarded = header.forwarded;
    if (connection.readable && credit(connection) > 0) {
        connection.asked_credit = false;
        list(ports, connection);
    }
    const bool established = connection.phase == Phase::established;
    switch (header.operation) {
        case RST: return drop(ports);
        case RESPONSE:
            if (established) break;
            connection.phase = Phase::established;
            connection.socket->accepted(ports.host);
            return listen(ports, connection);
        case RW:
            if (!established || (connection.guest_ended & END_SEND)) break;
            return take_bytes(ports, connection, header.size, chain, memory);
        case SHUTDOWN:
            if (!established) break;
            return take_shutdown(ports, connection, header.flags & END_BOTH);
        case CREDIT_UPDATE: return;
        case CREDIT_REQUEST: connection.owes_credit = true; return list(ports, connection);
        default: break;
    }
    ++malformed_;
    drop(ports);
    refuse(ports);
}

void VirtioSocket::take_bytes(Ports ports, Connection& connection, uint32_t size, const VirtqueueChain& chain,
                              const GuestMemory& memory) {
    // More than the guest has credit for, or than there is.
    if (size > buffer_size - connection.backlog.size() || size > chain.readable_size - header_size) {
        ++malformed_;
        drop(ports);
        return refuse(ports);
    }
    bytes_.resize(size);
    static_cast<void>(chain.read(memory, header_size, bytes_));
    connection.received += size;
    connection.backlog.add(bytes_);
    // What is behind other bytes waits with them.
    if (connection.backlog.size() == size) flush(ports, connection);
}

void VirtioSocket::take_shutdown(Ports ports, Connection& connection, uint32_t flags) {
    connection.guest_ended |= flags;
    if (connection.guest_ended != END_BOTH) {
        if ((connection.guest_ended & END_SEND) && connection.backlog.size() == 0) connection.socket->end_writing();
        return;
    }
    // The guest is done with it; the host may still have to take bytes.
    if (connection.backlog.size() > 0) {
        const uint64_t number = next_leaving_++;
        leaving_[number] = {std::move(connection.socket), std::move(connection.backlog)};
        leaving_[number].socket->when_writable([this, number] { flush_leaving(number); });
    }
    drop(ports);
    refuse(ports);
}

// ---- Packets for the driver ----------------------------------------------------------------------------------------

void VirtioSocket::list(Ports ports, Connection& connection) {
    if (!std::exchange(connection.listed, true)) ready_.push_back(ports);
}

void VirtioSocket::tell() {
    const bool held = refusals_.size() >= most_refusals;
    transport().serve(receive_queue, [&](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        // A buffer too small for anything comes back empty.
        if (chain.writable_size < header_size) return 0;
        VirtioSocketHeader header{.to_cid = cid_, .type = TYPE_STREAM};
        bytes_.clear();
        bool found = false;
        if (!refusals_.empty()) {
            const Refusal& refusal = refusals_.front();
            header.from_cid = refusal.from_cid;
            header.from_port = refusal.from_port;
            header.to_port = refusal.to_port;
            header.type = refusal.type;
            header.operation = RST;
            refusals_.pop_front();
            found = true;
        }
        while (!found && !ready_.empty()) {
            const Ports ports = ready_.front();
            ready_.pop_front();
            Connection& connection = *find(ports);
            connection.listed = false;
            found = fill_packet(ports, connection, chain.writable_size - header_size, header);
            // Behind all others.
            if (found) list(ports, connection);
        }
        if (!found) return std::nullopt;
        header.size = static_cast<uint32_t>(bytes_.size());
        static_cast<void>(chain.write(memory, 0, bytes_of(header)));
        static_cast<void>(chain.write(memory, header_size, bytes_));
        return static_cast<uint32_t>(header_size + bytes_.size());
    });
    if (held && refusals_.size() < most_refusals) transport().go_on_in_a_moment(send_queue);
}

/// How many bytes the guest has room for (5.10.6.3).
uint32_t VirtioSocket::credit(const Connection& connection) {
    const uint32_t under_way = connection.sent - connection.guest_forwarded;
    return under_way < connection.guest_buffer ? connection.guest_buffer - under_way : 0;
}

/// The next packet of a connection, its bytes in `bytes_`; false when it has none.
bool VirtioSocket::fill_packet(Ports ports, Connection& connection, uint64_t room, VirtioSocketHeader& header) {
    if (std::exchange(connection.owes_call, false)) {
        header.operation = REQUEST;
    } else if (std::exchange(connection.owes_answer, false)) {
        header.operation = RESPONSE;
    } else if (connection.phase == Phase::calling) {
        return false;
    } else if (read_host(connection, room, header)) {
        // It says itself what it is.
    } else if (connection.host_ended != connection.host_ended_told) {
        connection.host_ended_told = connection.host_ended;
        header.operation = SHUTDOWN;
        header.flags = connection.host_ended;
    } else if (connection.owes_credit) {
        header.operation = CREDIT_UPDATE;
    } else {
        listen(ports, connection);
        return false;
    }
    header.from_cid = host_cid;
    header.from_port = ports.host;
    header.to_port = ports.guest;
    header.buffer_size = buffer_size;
    header.forwarded = connection.forwarded_told = connection.forwarded;
    connection.owes_credit = false;
    return true;
}

/// Bytes of the host for the guest, or the question how many it would take.
bool VirtioSocket::read_host(Connection& connection, uint64_t room, VirtioSocketHeader& header) {
    if (!connection.readable || connection.end_read || (connection.guest_ended & END_RECEIVE)) return false;
    const uint64_t size = std::min<uint64_t>({room, most_read, credit(connection)});
    if (size == 0) {
        if (room == 0 || std::exchange(connection.asked_credit, true)) return false;
        header.operation = CREDIT_REQUEST;
        return true;
    }
    bytes_.resize(size);
    const HostSocket::Moved moved = connection.socket->read(bytes_);
    bytes_.resize(moved.size);
    header.operation = RW;
    connection.readable = moved.size > 0;
    connection.sent += static_cast<uint32_t>(moved.size);
    if (moved.ended) {
        connection.end_read = true;
        connection.host_ended |= connection.socket->gone() ? END_BOTH : END_SEND;
    }
    return moved.size > 0;
}

void VirtioSocket::tell_lost() {
    if (!lost_) return;
    transport().serve(event_queue, [this](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        if (!lost_) return std::nullopt;
        uint32_t event = TRANSPORT_RESET;
        const auto bytes = std::as_writable_bytes(std::span(&event, 1));
        if (!chain.write(memory, 0, bytes)) return 0;
        lost_ = false;
        return static_cast<uint32_t>(bytes.size());
    });
}

// ---- The host ------------------------------------------------------------------------------------------------------

/// A program wants to reach a port of the guest. When that cannot be, its end is closed.
void VirtioSocket::call(uint32_t port, std::unique_ptr<HostSocket> socket) {
    if (!transport().running() || connections() >= most_connections) return;
    Ports ports{port, next_port_};
    while (find(ports)) ports.host = ports.host == UINT32_MAX ? first_port : ports.host + 1;
    next_port_ = ports.host == UINT32_MAX ? first_port : ports.host + 1;
    Connection& connection = connections_[ports];
    connection.phase = Phase::calling;
    connection.socket = std::move(socket);
    connection.owes_call = true;
    connection.deadline = clock_.now() + patience;
    if (!timer_.armed()) timer_.arm(connection.deadline);
    list(ports, connection);
    tell();
}

/// Goes on when the host has something to say.
void VirtioSocket::listen(Ports ports, Connection& connection) {
    if (connection.phase == Phase::calling || connection.readable || connection.end_read) return;
    if (connection.guest_ended & END_RECEIVE) return;
    connection.socket->when_readable([this, ports] {
        Connection* found = find(ports);
        if (!found) return;
        found->readable = true;
        list(ports, *found);
        tell();
    });
}

/// Gives the host what it takes.
void VirtioSocket::flush(Ports ports, Connection& connection) {
    Backlog& backlog = connection.backlog;
    const HostSocket::Moved moved = connection.socket->write(std::span(backlog.bytes).subspan(backlog.taken));
    if (moved.ended) {
        // Nobody reads: the rest has gone its way too.
        connection.forwarded += static_cast<uint32_t>(backlog.size());
        backlog.take(backlog.size());
        connection.host_ended |= END_RECEIVE;
        list(ports, connection);
    } else {
        connection.forwarded += static_cast<uint32_t>(moved.size);
        backlog.take(moved.size);
    }
    if (backlog.size() > 0) {
        connection.socket->when_writable([this, ports] {
            Connection* found = find(ports);
            if (!found) return;
            flush(ports, *found);
            tell();
        });
    } else if (connection.guest_ended & END_SEND) {
        connection.socket->end_writing();
    }
    // The guest learns of room before it believes that there is none.
    const bool news = connection.forwarded != connection.forwarded_told;
    if (news && connection.received - connection.forwarded_told > buffer_size / 2) {
        connection.owes_credit = true;
        list(ports, connection);
    }
}

void VirtioSocket::flush_leaving(uint64_t number) {
    const auto at = leaving_.find(number);
    if (at == leaving_.end()) return;
    Backlog& backlog = at->second.backlog;
    const HostSocket::Moved moved = at->second.socket->write(std::span(backlog.bytes).subspan(backlog.taken));
    backlog.take(moved.size);
    if (moved.ended || backlog.size() == 0) {
        leaving_.erase(at);
    } else {
        at->second.socket->when_writable([this, number] { flush_leaving(number); });
    }
}

void VirtioSocket::drop(Ports ports) {
    const auto at = connections_.find(ports);
    if (at->second.listed) std::erase(ready_, ports);
    connections_.erase(at);
}

void VirtioSocket::refuse(Ports ports) {
    refusals_.push_back({host_cid, ports.host, ports.guest, TYPE_STREAM});
}

/// Connections that the guest has not answered to.
void VirtioSocket::time_is_up() {
    const VirtualTime now = clock_.now();
    std::optional<VirtualTime> next;
    std::vector<Ports> late;
    for (const auto& [ports, connection] : connections_) {
        if (connection.phase == Phase::established) continue;
        if (connection.deadline <= now) {
            late.push_back(ports);
        } else if (!next || connection.deadline < *next) {
            next = connection.deadline;
        }
    }
    for (const Ports ports : late) {
        if (!find(ports)->owes_call) refuse(ports);
        drop(ports);
    }
    if (next) timer_.arm(*next);
    tell_lost();
    tell();
}

void VirtioSocket::Backlog::add(std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
}

void VirtioSocket::Backlog::take(size_t count) {
    taken += count;
    if (taken == bytes.size()) {
        bytes.clear();
        taken = 0;
    } else if (taken >= buffer_size) {
        bytes.erase(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(taken));
        taken = 0;
    }
}

// ---- State ---------------------------------------------------------------------------------------------------------

void VirtioSocket::drop_all() {
    connections_.clear();
    leaving_.clear();
    ready_.clear();
    refusals_.clear();
    timer_.cancel();
}

void VirtioSocket::driver_reset() {
    drop_all();
    lost_ = false;
}

void VirtioSocket::reset(ResetKind /*kind*/) {
    driver_reset();
    state_ = {};
}

void VirtioSocket::after_load() {
    drop_all();
    lost_ = state_.lost;
    // Not now: memory may not be there yet.
    if (lost_) timer_.arm(VirtualTime{});
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_socket(DeviceContext& context) {
    const uint32_t cid = TRY(context.need_u32("viv,cid"));
    constexpr uint32_t first = 3, any = UINT32_MAX;
    if (cid < first || cid == any)
        return context.refuse(fmt::format("a guest's socket number `viv,cid` is from {} to {}", first, any - 1));
    const std::string path = TRY(context.need_string("viv,socket"));
    auto host = UnixSockets::listen(path, context.loop);
    if (!host) return add_context(host.error(), context.path);
    auto made = std::make_unique<VirtioSocket>(cid, std::move(*host), context.clock);
    context.services.provide(*made);
    return made;
}

}  // namespace viv
