#include "devices/virtio/virtio_console.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

namespace viv {
namespace {

using namespace virtio;

// Feature bits (5.3.3)
constexpr uint64_t SIZE = feature(0), MULTIPORT = feature(1), EMERG_WRITE = feature(2);
constexpr uint64_t emergency_at = 8;

// Control messages (5.3.6.2)
enum Event : uint16_t {
    DEVICE_READY = 0,
    DEVICE_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    PORT_OPEN = 6,
    PORT_NAME = 7,
};
struct Message {
    uint32_t port;
    uint16_t event;
    uint16_t value;
};

/// What one buffer takes from the host, and what one turn takes from a buffer, in bytes.
constexpr size_t most_received = 4096, most_sent = 1u << 20;

void append(std::vector<uint8_t>& bytes, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

}  // namespace

VirtioConsole::VirtioConsole(std::vector<Port> ports, Size size) : ports_(std::move(ports)), size_(size) {
    VIV_ASSERT(!ports_.empty() && ports_.size() <= most_ports);
    // A pair of queues for each port, and behind the first port's the one for control.
    identity_ = {.id = DeviceId::console,
                 .class_code = 0x078000,
                 .queue_sizes = std::vector<uint16_t>(2 * ports_.size() + 2, 64)};
    for (size_t i = 0; i < ports_.size(); ++i) {
        ports_[i].backend->on_readable([this, i] { receive(i); });
        ports_[i].backend->on_writable([this, i] { send(i); });
    }
    reset(ResetKind::power_on);
}

uint64_t VirtioConsole::features() const {
    return MULTIPORT | EMERG_WRITE | (size_.columns ? SIZE : 0);
}

std::vector<uint8_t> VirtioConsole::configuration() const {
    std::vector<uint8_t> bytes;
    append(bytes, state_.columns, 2);
    append(bytes, state_.rows, 2);
    append(bytes, ports_.size(), 4);
    append(bytes, 0, 4);
    return bytes;
}

void VirtioConsole::write_configuration(uint64_t offset, uint8_t value) {
    // What the host does not take at once is lost: nobody waits in an emergency.
    if (offset == emergency_at) static_cast<void>(ports_[0].backend->write(value));
}

void VirtioConsole::resize(Size size) {
    state_.columns = size.columns;
    state_.rows = size.rows;
    transport().configuration_changed();
    for (size_t i = 0; i < ports_.size(); ++i) {
        if (ports_[i].name.empty() && state_.ports[i].open) owe(i, Owed::resize);
    }
    tell_owed();
}

void VirtioConsole::notified(unsigned queue) {
    // A driver that knows one port has no other queues.
    if (queue >= control_receive && !transport().has(MULTIPORT)) return;
    if (queue == control_receive) return tell_owed();
    if (queue == control_send) {
        transport().serve(queue,
                          [this](VirtqueueChain& chain, GuestMemory& memory) { return take_message(chain, memory); });
        return tell_owed();
    }
    const size_t port = queue < control_receive ? 0 : queue / 2 - 1;
    if (queue % 2 == 0) {
        receive(port);
    } else {
        send(port);
    }
}

// ---- Data ----------------------------------------------------------------------------------------------------------

void VirtioConsole::receive(size_t port) {
    CharBackend& backend = *ports_[port].backend;
    if (!backend.readable() || (transport().has(MULTIPORT) && !state_.ports[port].open)) return;
    transport().serve(receive_queue(port), [&](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        std::vector<std::byte> bytes;
        const size_t room = std::min<uint64_t>(chain.writable_size, most_received);
        while (bytes.size() < room) {
            const auto byte = backend.read();
            if (!byte) break;
            bytes.push_back(static_cast<std::byte>(*byte));
        }
        if (bytes.empty() && room > 0) return std::nullopt;
        static_cast<void>(chain.write(memory, 0, bytes));
        return static_cast<uint32_t>(bytes.size());
    });
}

void VirtioConsole::send(size_t port) {
    transport().serve(receive_queue(port) + 1, [this, port](VirtqueueChain& chain, GuestMemory& memory) {
        return send_buffer(port, chain, memory);
    });
}

std::optional<uint32_t> VirtioConsole::send_buffer(size_t port, VirtqueueChain& chain, GuestMemory& memory) {
    uint64_t& sent = state_.ports[port].sent;
    for (uint64_t done = 0; sent < chain.readable_size; ++done, ++sent) {
        std::array<std::byte, 1> byte{};
        if (done == most_sent) {
            transport().go_on_later(receive_queue(port) + 1);
            return std::nullopt;
        }
        static_cast<void>(chain.read(memory, sent, byte));
        if (!ports_[port].backend->write(static_cast<uint8_t>(byte[0]))) return std::nullopt;
    }
    sent = 0;
    return 0;
}

// ---- Control -------------------------------------------------------------------------------------------------------

void VirtioConsole::owe(size_t port, Owed message) {
    uint8_t& owed = state_.ports[port].owed;
    owed = static_cast<uint8_t>(owed | 1u << std::to_underlying(message));
}

bool VirtioConsole::has_messages() const {
    return std::ranges::any_of(state_.ports, [](const VirtioConsolePortState& port) { return port.owed != 0; });
}

std::optional<uint32_t> VirtioConsole::take_message(VirtqueueChain& chain, GuestMemory& memory) {
    Message message{};
    if (!chain.read(memory, 0, std::as_writable_bytes(std::span(&message, 1)))) return 0;
    if (message.event == DEVICE_READY && message.value == 1) {
        for (size_t i = 0; i < ports_.size(); ++i) owe(i, Owed::add);
    }
    if (message.port >= ports_.size()) return 0;
    if (message.event == PORT_READY && message.value == 1) {
        if (ports_[message.port].name.empty()) {
            owe(message.port, Owed::console);
            if (state_.columns) owe(message.port, Owed::resize);
        } else {
            owe(message.port, Owed::name);
        }
        owe(message.port, Owed::open);
    }
    if (message.event == PORT_OPEN) {
        state_.ports[message.port].open = message.value != 0;
        receive(message.port);
    }
    return 0;
}

void VirtioConsole::tell_owed() {
    if (!has_messages()) return;
    transport().serve(control_receive, [this](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        const auto owes = [](const VirtioConsolePortState& state) { return state.owed != 0; };
        const auto at = std::ranges::find_if(state_.ports, owes);
        if (at == state_.ports.end()) return std::nullopt;
        const auto port = static_cast<size_t>(at - state_.ports.begin());
        const auto message = static_cast<Owed>(std::countr_zero(at->owed));
        at->owed = static_cast<uint8_t>(at->owed & (at->owed - 1));
        std::vector<uint8_t> bytes;
        const auto put = [&](Event event, uint16_t value) {
            append(bytes, port, 4);
            append(bytes, event, 2);
            append(bytes, value, 2);
        };
        switch (message) {
            case Owed::add: put(DEVICE_ADD, 1); break;
            case Owed::console: put(CONSOLE_PORT, 1); break;
            case Owed::open: put(PORT_OPEN, 1); break;
            case Owed::name:
                put(PORT_NAME, 1);
                bytes.insert(bytes.end(), ports_[port].name.begin(), ports_[port].name.end());
                break;
            case Owed::resize:
                put(RESIZE, 0);
                append(bytes, state_.columns, 2);
                append(bytes, state_.rows, 2);
                break;
        }
        // A buffer without room gets what fits.
        bytes.resize(std::min<uint64_t>(bytes.size(), chain.writable_size));
        static_cast<void>(chain.write(memory, 0, std::as_bytes(std::span(bytes))));
        return static_cast<uint32_t>(bytes.size());
    });
}

// ---- State ---------------------------------------------------------------------------------------------------------

void VirtioConsole::driver_reset() {
    state_.ports.assign(ports_.size(), {});
}

void VirtioConsole::reset(ResetKind /*kind*/) {
    state_ = {};
    state_.columns = size_.columns;
    state_.rows = size_.rows;
    state_.ports.assign(ports_.size(), {});
}

Result<void> VirtioConsole::validate(const VirtioConsoleState& staged) const {
    constexpr unsigned messages = std::to_underlying(Owed::resize) + 1;
    const auto wrong = [](const VirtioConsolePortState& port) { return port.owed >> messages != 0; };
    if (staged.ports.size() != ports_.size() || std::ranges::any_of(staged.ports, wrong))
        return fail("the saved state of the virtio console has other ports");
    return {};
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_console(DeviceContext& context) {
    std::vector<VirtioConsole::Port> ports;
    const auto add = [&](const TreeNode& node) -> Result<void> {
        constexpr size_t longest = 64;
        const std::string spec = node.string("viv,chardev").value_or("null");
        std::string name = node.string("viv,name").value_or("");
        if (name.size() > longest) return context.refuse("`viv,name` of a port has more than 64 characters");
        auto backend = open_char_backend(spec, context.loop);
        if (!backend) return add_context(backend.error(), context.path);
        ports.push_back({std::move(*backend), std::move(name)});
        return {};
    };
    if (context.node.children.size() > VirtioConsole::most_ports)
        return context.refuse(fmt::format("a console has at most {} ports", VirtioConsole::most_ports));
    if (context.node.children.empty()) TRY(add(context.node));
    for (const TreeNode& port : context.node.children) TRY(add(port));
    const auto number = [&](const char* key) {
        return static_cast<uint16_t>(std::min(context.node.u32(key).value_or(0), 0xFFFFu));
    };
    const VirtioConsole::Size size{number("viv,columns"), number("viv,rows")};
    auto console = std::make_unique<VirtioConsole>(std::move(ports), size);
    context.services.provide(*console);
    return console;
}

}  // namespace viv
