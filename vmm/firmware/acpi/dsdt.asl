/*
 * What every board of ours has in common. Its devices and processors are in the SSDT, which is made from the board's tree.
 * Reference: ACPI Specification 6.4, 5.2.11.1 "Differentiated System Description Table", 7.4.2 "System \_Sx states".
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "VIV   ", "VIVPC   ", 1)
{
    /* Soft off is sleep type 0 of the power management block. */
    Name (\_S5, Package (4) { 0, 0, 0, 0 })

    Scope (\_SB)
    {
        Device (ISA)
        {
            Name (_HID, EisaId ("PNP0A05"))
            Name (_UID, 0)
        }
    }
}
