"""What is thrown at the programs: requests, datagrams, rooms, IRC."""
